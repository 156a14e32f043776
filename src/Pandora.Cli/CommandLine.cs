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

            Exit codes: run, exec and ssh exit with the command's code. 124: the command reached its timeout. 125: Pandora failed, or the
            command line is wrong. 130: Ctrl-C ended it. 141: what reads the output has closed it.
            Standard output holds results only. Errors go to standard error; with --json, as one JSON object with code and detail.
            """)
        {
            RunCommand.Create(),
            CreateCommand.Create(),
            ExecCommand.Create(),
            ShellCommand.Create(),
            CopyCommand.Create(),
            ProcessListCommand.Create(),
            LogsCommand.Create(),
            SignalCommand.Create(),
            EgressCommand.Create(),
            PortListCommand.Create(),
            LinkCommand.Create(),
            PublicCommand.Create(),
            ForwardCommand.Create(),
            SshCommand.Create(),
            SshConfigCommand.Create(),
            McpCommand.Create(),
            ListCommand.Create(),
            RemoveCommand.Create(),
            HealthCommand.Create(),
            StressCommand.Create(),
            CompletionCommand.Create(),
        };
        root.Options.Add(Shared.Url);
        root.Options.Add(Shared.Json);
        return root;
    }
}
