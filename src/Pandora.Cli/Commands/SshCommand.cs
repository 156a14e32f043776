using System.CommandLine;
using Pandora.Cli.Ports;
using Pandora.Cli.Ssh;

namespace Pandora.Cli.Commands;

/// <summary><c>ssh</c>: the system's ssh to a sandbox.</summary>
internal static class SshCommand
{
    public static Command Create()
    {
        var id = Suggestions.SandboxArgument();
        var words = new Argument<string[]>("command")
        {
            Description = "Command, after --: one word is shell text, several are a program and its arguments. Without it, a terminal",
            HelpName = "command",
            Arity = ArgumentArity.ZeroOrMore,
        };
        var user = UserOption();
        var tty = new Option<bool>("--tty", "-t") { Description = "Give the command a terminal" };
        var stdio = new Option<bool>("--stdio")
        {
            Description = "Connect standard input and output to the sandbox's SSH server: a ProxyCommand for ssh",
        };
        var command = new DescribedCommand(
            "ssh", "Log in to a sandbox by the system's ssh, with a key pair made for it; ssh's exit code is passed on",
            "./pandora ssh ID", "./pandora ssh ID -- make -C /src", "./pandora ssh -l nobody ID 'echo $HOME'")
        {
            id,
            words,
            user,
            tty,
            stdio,
        };
        command.SetAction(async (result, cancellationToken) =>
        {
            var name = result.GetRequiredValue(id);
            var code = result.GetValue(words) is { Length: > 0 } given ? CommandTail.ToCode(given) : null;
            if (result.GetValue(Shared.Json))
            {
                throw new UsageException("ssh has no --json");
            }

            using var pandora = Shared.Connect(result);
            if (result.GetValue(stdio))
            {
                // No signal is caught: this ends as any program between two pipes does.
                await using var stream = await pandora.Connect(name).Ssh.ConnectAsync(cancellationToken);
                await StandardStreams.ConnectAsync(stream);
                return 0;
            }

            var host = await new SshAccessFiles(pandora, new SshDirectory(SshDirectory.UsualPath, TimeProvider.System))
                .PrepareAsync(name, UserOf(result, user), cancellationToken);
            return await SshClient.RunAsync(host, result.GetValue(tty) ? ["-t"] : [], code);
        });
        return command;
    }

    /// <summary>The option for the user to log in as.</summary>
    public static Option<string> UserOption() => new("--user", "-l") { Description = "User to log in as (default: root)" };

    /// <summary>The user that the command line names.</summary>
    public static string UserOf(ParseResult result, Option<string> option) => result.GetValue(option) ?? "root";
}
