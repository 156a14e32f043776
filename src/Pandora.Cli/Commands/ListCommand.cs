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
        var project = new Option<string>("--project") { Description = "Only those of this project" };
        var command = new Command("ls", "List the sandboxes that the key may see") { metadata, project };
        command.SetAction(async (result, cancellationToken) =>
        {
            using var pandora = Shared.Connect(result);
            var sandboxes = await pandora.Api.ListAsync(Shared.Pairs("--metadata", result.GetValue(metadata)), cancellationToken);
            if (result.GetValue(project) is { } name)
            {
                sandboxes = [.. sandboxes.Where(s => s.Project == name)];
            }

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

            AnsiConsole.Write(ToTable(sandboxes));
        });
        return command;
    }

    /// <summary>The table that a terminal shows. It has the projects only where there are several.</summary>
    internal static Table ToTable(IReadOnlyList<SandboxInfo> sandboxes)
    {
        var hasProjects = sandboxes.DistinctBy(s => s.Project).Count() > 1;
        string[] OfProject(string cell) => hasProjects ? [cell] : [];
        var table = new Table()
            .Border(TableBorder.None)
            .AddColumns(["id", .. OfProject("project"), "template", "age", "idle", "ends when idle", "commands", "address"]);
        foreach (var s in sandboxes)
        {
            table.AddRow(
            [
                s.SandboxId,
                .. OfProject(s.Project),
                s.Template,
                $"{s.AgeSeconds:0} s",
                $"{s.IdleSeconds:0} s",
                $"{s.IdleTimeout:0} s",
                $"{s.ExecCount}",
                s.GuestIp,
            ]);
        }

        return table;
    }
}
