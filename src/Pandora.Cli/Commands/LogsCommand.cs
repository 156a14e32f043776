using System.CommandLine;
using Pandora.Cli.Sessions;
using Pandora.Client;

namespace Pandora.Cli.Commands;

/// <summary><c>logs</c>: the output of a process.</summary>
internal static class LogsCommand
{
    public static Command Create()
    {
        var id = Suggestions.SandboxArgument();
        var process = Suggestions.ProcessArgument(id);
        var follow = new Option<bool>("--follow", "-f") { Description = "Go on until the process ends" };
        var from = new Option<long>("--from") { Description = "Offset of the first byte; -1 for what comes from now on" };
        var command = new Command("logs", "Write the output of a process, as it is, to standard output and standard error")
        {
            id, process, follow, from,
        };
        command.SetAction(async (result, cancellationToken) =>
        {
            using var pandora = Shared.Connect(result);
            if (result.GetValue(from) < -1)
            {
                throw new UsageException("--from must be at least -1");
            }

            var processes = new SandboxProcesses(pandora.Api, result.GetRequiredValue(id));
            var source = await processes.AttachAsync(result.GetRequiredValue(process), cancellationToken);
            await foreach (var output in source.ReadOutputAsync(result.GetValue(from), result.GetValue(follow), cancellationToken))
            {
                CommandOutput.Write(output);
            }
        });
        return command;
    }
}
