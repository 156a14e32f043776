using System.CommandLine;
using Pandora.Contracts;
using Spectre.Console;

namespace Pandora.Cli.Commands;

/// <summary><c>ls</c>: the sandboxes there are.</summary>
internal static class ListCommand
{
    public static Command Create()
    {
        var metadata = new Option<string[]>("--metadata") { Description = "Only those with this pair, name=value; may be repeated" };
        var command = new Command("ls", "List the sandboxes") { metadata };
        command.SetAction(async (result, cancellationToken) =>
        {
            using var pandora = Shared.Connect(result);
            var sandboxes = await pandora.Api.ListAsync(Shared.Pairs("--metadata", result.GetValue(metadata)), cancellationToken);
            if (result.GetValue(Shared.Json))
            {
                Shared.PrintJson(sandboxes, PandoraJson.Default.SandboxInfoArray);
                return;
            }

            if (Console.IsOutputRedirected)
            {
                // For scripts: one id a line.
                foreach (var sandbox in sandboxes)
                {
                    Console.WriteLine(sandbox.SandboxId);
                }

                return;
            }

            var table = new Table()
                .Border(TableBorder.None)
                .AddColumns("id", "template", "age", "idle", "ends when idle", "commands", "address");
            foreach (var s in sandboxes)
            {
                table.AddRow(
                    s.SandboxId,
                    s.Template,
                    $"{s.AgeSeconds:0} s",
                    $"{s.IdleSeconds:0} s",
                    $"{s.IdleTimeout:0} s",
                    $"{s.ExecCount}",
                    s.GuestIp);
            }

            AnsiConsole.Write(table);
        });
        return command;
    }
}
