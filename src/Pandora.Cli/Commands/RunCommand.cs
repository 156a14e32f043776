using System.CommandLine;
using System.Diagnostics;
using Pandora.Cli.Sessions;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary><c>run</c>: claim, run, tear down, and one line on standard error with the result.</summary>
internal static class RunCommand
{
    public static Command Create()
    {
        var (fresh, exec) = (new FreshSandbox(), new CommandOptions());
        var command = new Command(
            "run",
            "Run one command in a fresh sandbox, and show its output as it comes; its exit code is passed on. 124: it timed out; "
                + "125: Pandora failed. Ctrl-C is passed on to the command, a second one kills it; the sandbox ends with it");
        fresh.AddTo(command);
        exec.AddTo(command);
        command.SetAction(async (result, _) =>
        {
            var spec = exec.Read(result);
            using var pandora = Shared.Connect(result);
            using var interruption = Interruption.Listen();
            return await fresh.UseAsync(result, pandora, interruption, async id =>
            {
                if (result.GetValue(Shared.Json))
                {
                    var response = await CommandOptions.CollectAsync(pandora, id, spec, interruption);
                    Shared.PrintJson(response, PandoraJson.Default.ExecResponse);
                    return (response.ExitCode, response.ExecMs);
                }

                var start = Stopwatch.GetTimestamp();
                var end = await CommandOptions.RunAsync(pandora, id, spec, interruption);
                var ran = end.Exit?.ExecMs ?? Stopwatch.GetElapsedTime(start).TotalMilliseconds;
                return (end.ExitCode, end.Exit?.TimedOut == true ? null : ran);
            });
        });
        return command;
    }
}
