using System.CommandLine;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary><c>exec</c>: run a command in a sandbox that there is.</summary>
internal static class ExecCommand
{
    public static Command Create()
    {
        var id = new Argument<string>("id") { Description = "Id of the sandbox" };
        var exec = new ExecOptions();
        var command = new Command("exec", "Run a command in a sandbox; its exit code is passed on") { id };
        exec.AddTo(command);
        command.SetAction(async (result, cancellationToken) =>
        {
            using var pandora = Shared.Connect(result);
            try
            {
                var execution = await pandora.ExecAsync(result.GetRequiredValue(id), await exec.ReadAsync(result, cancellationToken), cancellationToken);
                if (result.GetValue(Shared.Json))
                {
                    Shared.PrintJson(execution.Response, PandoraJson.Default.ExecResponse);
                    return execution.ExitCode;
                }

                return ExecOptions.Print(execution);
            }
            catch (ExecTimeoutException timeout)
            {
                return ExecOptions.Print(timeout);
            }
        });
        return command;
    }
}
