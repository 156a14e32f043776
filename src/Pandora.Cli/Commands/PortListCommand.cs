using System.CommandLine;
using Pandora.Contracts;
using Spectre.Console;

namespace Pandora.Cli.Commands;

/// <summary><c>ports</c>: what listens in a sandbox.</summary>
internal static class PortListCommand
{
    public static Command Create()
    {
        var id = Suggestions.SandboxArgument();
        var command = new DescribedCommand(
            "ports", "List the ports of a sandbox on which programs listen, and those that are public",
            "./pandora ports ID", "./pandora ports --json ID")
        {
            id,
        };
        command.SetAction(async (result, cancellationToken) =>
        {
            using var pandora = Shared.Connect(result);
            var ports = await pandora.Api.ListPortsAsync(result.GetRequiredValue(id), cancellationToken);
            if (result.GetValue(Shared.Json))
            {
                Shared.PrintJson(ports, PandoraJson.Default.PortInfoArray);
                return;
            }

            if (Console.IsOutputRedirected)
            {
                // For scripts: one port a line.
                foreach (var port in ports)
                {
                    Console.WriteLine(port.Port);
                }

                return;
            }

            AnsiConsole.Write(ToTable(ports));
        });
        return command;
    }

    /// <summary>The table that a terminal shows.</summary>
    internal static Table ToTable(IReadOnlyList<PortInfo> ports)
    {
        var table = new Table().Border(TableBorder.None).AddColumns("port", "listens on", "program", "pid", "public", "preview");
        foreach (var p in ports)
        {
            table.AddRow(
                $"{p.Port}",
                Markup.Escape(p.Addresses.Count == 0 ? "nobody" : Shared.Clean(string.Join(", ", p.Addresses))),
                Markup.Escape(Shared.Clean(p.Program ?? "")),
                $"{p.Pid}",
                p.Public ? "yes" : "no",
                Markup.Escape(Shared.Clean(p.PreviewUrl)));
        }

        return table;
    }
}
