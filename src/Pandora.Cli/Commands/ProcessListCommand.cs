using System.CommandLine;
using Pandora.Contracts;
using Spectre.Console;

namespace Pandora.Cli.Commands;

/// <summary><c>ps</c>: the processes of a sandbox.</summary>
internal static class ProcessListCommand
{
    public static Command Create()
    {
        var id = Suggestions.SandboxArgument();
        var command = new Command("ps", "List the processes of a sandbox, running and ended, oldest first") { id };
        command.SetAction(async (result, cancellationToken) =>
        {
            using var pandora = Shared.Connect(result);
            var processes = await pandora.Api.ListProcessesAsync(result.GetRequiredValue(id), cancellationToken);
            if (result.GetValue(Shared.Json))
            {
                Shared.PrintJson(processes, PandoraJson.Default.ProcessStateArray);
                return;
            }

            if (Console.IsOutputRedirected)
            {
                // For scripts: one id a line.
                foreach (var process in processes)
                {
                    Console.WriteLine(process.ProcessId);
                }

                return;
            }

            var table = new Table().Border(TableBorder.None).AddColumns("id", "pid", "state", "started", "output", "tag", "command");
            foreach (var p in processes)
            {
                table.AddRow(
                    p.ProcessId,
                    $"{p.Pid}",
                    p.ExitCode is { } exitCode ? $"exited {exitCode}" : p.State,
                    p.StartedAt.ToLocalTime().ToString("yyyy-MM-dd HH:mm:ss"),
                    Limits.Size(p.OutputEnd),
                    Markup.Escape(Shared.Clean(p.Tag ?? "")),
                    Markup.Escape(Shared.Clean(p.Command)));
            }

            AnsiConsole.Write(table);
        });
        return command;
    }
}
