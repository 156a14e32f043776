using System.CommandLine;
using System.Diagnostics;
using Pandora.Cli.Sessions;

namespace Pandora.Cli.Commands;

/// <summary><c>shell</c>: bash in a terminal, in a sandbox that there is or in a fresh one.</summary>
internal static class ShellCommand
{
    public static Command Create()
    {
        var id = Suggestions.SandboxArgument();
        id.Arity = ArgumentArity.ZeroOrOne;
        var user = new Option<string>("--user") { Description = "User to run as (default: root)" };
        var cwd = new Option<string>("--cwd") { Description = "Directory to start in (default: the user's home)" };
        var fresh = new FreshSandbox();
        var command = new Command(
            "shell",
            "Open a terminal with bash in a sandbox; without an id, in a fresh one, which ends with it. ~. at the beginning of a line "
                + "leaves it")
        {
            id,
            user,
            cwd,
        };
        fresh.AddTo(command);
        command.SetAction(async (result, _) =>
        {
            if (result.GetValue(Shared.Json))
            {
                throw new UsageException("shell has no --json");
            }

            TerminalSession.Check();
            var shell = new CommandSpec(
                "exec bash -l", null, result.GetValue(cwd), new Dictionary<string, string>(), result.GetValue(user), Merge: false,
                HasInput: true, HasTerminal: true);
            using var pandora = Shared.Connect(result);
            using var interruption = Interruption.Listen();
            if (result.GetValue(id) is { Length: > 0 } name)
            {
                return await ExecCommand.UseAsync(
                    pandora, name, interruption, async i => (await CommandOptions.RunAsync(pandora, i, shell, interruption)).ExitCode);
            }

            return await fresh.UseAsync(result, pandora, interruption, async i =>
            {
                var start = Stopwatch.GetTimestamp();
                var end = await CommandOptions.RunAsync(pandora, i, shell, interruption);
                return (end.ExitCode, Stopwatch.GetElapsedTime(start).TotalMilliseconds);
            });
        });
        return command;
    }
}
