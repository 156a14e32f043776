using System.CommandLine;
using Pandora.Cli.Commands;

namespace Pandora.Cli;

/// <summary>All that the program takes.</summary>
internal static class CommandLine
{
    public static RootCommand Create()
    {
        var root = new RootCommand("""
            Throw-away sandboxes in real microVMs

            Exit codes: run and exec pass the command's own on; 124 says that it ran into its timeout, 125 that Pandora or the command line failed, 130 that Ctrl-C ended it.
            Errors go to standard error, with --json as one JSON object (code, detail, and what the API said), so that standard output holds results only.
            """)
        {
            RunCommand.Create(),
            CreateCommand.Create(),
            ExecCommand.Create(),
            ListCommand.Create(),
            RemoveCommand.Create(),
            HealthCommand.Create(),
            StressCommand.Create(),
        };
        root.Options.Add(Shared.Url);
        root.Options.Add(Shared.Json);
        return root;
    }
}
