using System.CommandLine;
using Pandora.Cli.Sessions;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary>The options by which <c>run</c> and <c>exec</c> describe a command, and the way they run it.</summary>
internal sealed class CommandOptions
{
    // What a server allows that does not say.
    private const double OlderMaxTimeout = 300;

    private readonly Argument<string[]> _words = new("command")
    {
        Description = "One word is shell text; several are a program and its arguments",
        Arity = ArgumentArity.OneOrMore,
    };
    private readonly Option<double?> _timeout = new("--timeout")
    {
        Description = $"Seconds after which it is killed, at least {Limits.MinExecTimeout:0} (default: as long as the server allows)",
    };

    private readonly Option<string> _cwd = new("--cwd") { Description = "Directory to run in (default: the user's home)" };
    private readonly Option<string> _user = new("--user") { Description = "User to run as (default: root)" };
    private readonly Option<string[]> _env = new("--env", "-e") { Description = "Environment variable, name=value; may be repeated" };

    private readonly Option<string[]> _envFile = new("--env-file")
    {
        Description = "File of environment variables, KEY=VALUE or KEY (this program's value) on each line; may be repeated. --env comes "
            + "after it",
    };

    private readonly Option<bool> _interactive = new("--interactive", "-i")
    {
        Description = "Give the command this program's standard input as it comes: any bytes, of any length (with --json at most "
            + $"{Limits.Size(Limits.MaxStdinBytes)}, read to its end first). Without -i the input is empty",
    };

    private readonly Option<bool> _terminal = new("--tty", "-t")
    {
        Description = "Give the command a terminal, shown in this one; ~. at the beginning of a line leaves it",
    };

    private readonly Option<bool> _merge = new("--merge")
    {
        Description = "Write both of the command's outputs to standard output, in their order",
    };

    public void AddTo(Command command)
    {
        command.Arguments.Add(_words);
        command.Options.Add(_timeout);
        command.Options.Add(_cwd);
        command.Options.Add(_user);
        command.Options.Add(_env);
        command.Options.Add(_envFile);
        command.Options.Add(_interactive);
        command.Options.Add(_terminal);
        command.Options.Add(_merge);
    }

    /// <summary>The command that the command line describes.</summary>
    /// <exception cref="UsageException">It asks for a terminal where none is possible.</exception>
    public CommandSpec Read(ParseResult result)
    {
        var command = new CommandSpec(
            CommandTail.ToCode(result.GetRequiredValue(_words)), result.GetValue(_timeout), result.GetValue(_cwd),
            VariablesOf(result), result.GetValue(_user), result.GetValue(_merge),
            result.GetValue(_interactive), result.GetValue(_terminal));
        if (command.HasTerminal && result.GetValue(Shared.Json))
        {
            throw new UsageException("--tty and --json do not go together");
        }

        if (command.HasTerminal)
        {
            TerminalSession.Check();
        }

        return command;
    }

    /// <summary>Runs a command, and shows its output as it comes.</summary>
    /// <exception cref="StoppedException">The user stopped it.</exception>
    public static async Task<CommandEnd> RunAsync(
        PandoraClient pandora, string sandboxId, CommandSpec command, Interruption interruption)
    {
        if (command.HasTerminal)
        {
            return await new TerminalSession(pandora, sandboxId, interruption).RunAsync(command);
        }

        using var session = new CommandSession(pandora, sandboxId, interruption);
        try
        {
            if (command.HasInput)
            {
                using var input = new StandardInput();
                return await session.FeedAsync(command.ToProcess(), input);
            }

            var timeout = await TimeoutAsync(pandora, command, interruption.Leaving);
            return await session.ExecAsync(command.ToExec(timeout, ByteEncodings.Base64));
        }
        catch (ExecTimeoutException timeout)
        {
            // Of an older server, which answers at the end.
            Descriptors.Write(1, (timeout.StdoutBytes ?? default).Span);
            Descriptors.Write(2, (timeout.StderrBytes ?? default).Span);
            CommandOutput.Warn(timeout.IsTruncated, timeout.IsOutOfMemory, timeout.MemoryLimit);
            throw;
        }
    }

    /// <summary>Runs a command, and returns the answer with its collected output.</summary>
    /// <exception cref="StoppedException">The user stopped it.</exception>
    public static async Task<ExecResponse> CollectAsync(
        PandoraClient pandora, string sandboxId, CommandSpec command, Interruption interruption)
    {
        var request = command.ToExec(await TimeoutAsync(pandora, command, interruption.Leaving), encoding: null);
        if (command.HasInput)
        {
            using var input = new StandardInput();
            var bytes = await CommandInput.ReadAsync(input, interruption.Leaving);
            request = request with { Stdin = Convert.ToBase64String(bytes.Span), StdinEncoding = ByteEncodings.Base64 };
        }

        try
        {
            return await pandora.Api.ExecAsync(sandboxId, request, interruption.Leaving);
        }
        catch (OperationCanceledException)
        {
            throw new StoppedException(StoppedException.CommandWords, interruption.ExitCode);
        }
    }

    // A later one replaces an earlier one of the same name.
    private Dictionary<string, string> VariablesOf(ParseResult result)
    {
        var variables = new Dictionary<string, string>();
        foreach (var more in (result.GetValue(_envFile) ?? []).Select(EnvFile.Read).Append(Shared.Pairs("--env", result.GetValue(_env))))
        {
            foreach (var (name, value) in more)
            {
                variables[name] = value;
            }
        }

        return variables;
    }

    private static async Task<double> TimeoutAsync(PandoraClient pandora, CommandSpec command, CancellationToken cancellationToken)
    {
        if (command.Timeout is { } timeout)
        {
            return timeout;
        }

        var most = (await pandora.Api.GetHealthAsync(cancellationToken)).MaxTimeout;
        return most > 0 ? most : OlderMaxTimeout;
    }
}
