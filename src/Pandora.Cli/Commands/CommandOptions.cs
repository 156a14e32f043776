using System.CommandLine;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary>The options by which <c>run</c> and <c>exec</c> describe a command, and the way they print its outcome.</summary>
internal sealed class CommandOptions
{
    private readonly Argument<string[]> _words = new("command")
    {
        Description = "One word is shell text; several are a program and its arguments",
        Arity = ArgumentArity.OneOrMore,
    };
    private readonly Option<double> _timeout = new("--timeout")
    {
        Description = $"Seconds after which it is killed, {Limits.MinExecTimeout:0} to {Limits.MaxExecTimeout:0}",
        DefaultValueFactory = _ => Limits.MaxExecTimeout,
    };

    private readonly Option<string> _cwd = new("--cwd") { Description = "Directory to run in (default: the user's home)" };
    private readonly Option<string> _user = new("--user") { Description = "User to run as (default: root)" };
    private readonly Option<string[]> _env = new("--env", "-e") { Description = "Environment variable, name=value; may be repeated" };

    private readonly Option<bool> _interactive = new("--interactive", "-i")
    {
        Description = $"Give the command this program's standard input: UTF-8 text, at most {Limits.Size(Limits.MaxStdinBytes)}, "
            + "read to its end before the command starts. Without -i the input is empty",
    };

    public void AddTo(Command command)
    {
        command.Arguments.Add(_words);
        command.Options.Add(_timeout);
        command.Options.Add(_cwd);
        command.Options.Add(_user);
        command.Options.Add(_env);
        command.Options.Add(_interactive);
    }

    /// <summary>The request that the command line describes, with the command's standard input.</summary>
    /// <exception cref="StoppedException">The user stopped it while the input was read.</exception>
    public async Task<ExecRequest> ReadAsync(ParseResult result, CancellationToken cancellationToken)
    {
        var request = new ExecRequest(
            CommandTail.ToCode(result.GetRequiredValue(_words)), result.GetValue(_timeout), result.GetValue(_cwd),
            Shared.Pairs("--env", result.GetValue(_env)), result.GetValue(_user));
        if (!result.GetValue(_interactive))
        {
            return request;
        }

        try
        {
            using var input = Console.OpenStandardInput();
            return request with { Stdin = await CommandInput.ReadAsync(input, cancellationToken) };
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            throw new StoppedException("interrupted before the command was started");
        }
    }

    /// <summary>Prints both outputs, or with JSON the whole answer, and returns the command's exit code.</summary>
    public static int Print(ExecResponse response, bool asJson)
    {
        if (asJson)
        {
            Shared.PrintJson(response, PandoraJson.Default.ExecResponse);
            return response.ExitCode;
        }

        Console.Out.Write(response.Stdout);
        Console.Error.Write(response.Stderr);
        if (response.Truncated == true)
        {
            Console.Error.WriteLine($"pandora: the output was longer than the {Limits.Size(Limits.MaxOutputBytes)} that are kept");
        }

        return response.ExitCode;
    }

    /// <summary>Prints what a command that ran into its timeout had written, and returns the exit code of timeout(1). With JSON the output
    /// is a part of the error.</summary>
    public static int Print(ExecTimeoutException timeout, bool asJson)
    {
        if (!asJson)
        {
            Console.Out.Write(timeout.Stdout);
            Console.Error.Write(timeout.Stderr);
        }

        return Failure.Of(timeout)!.Print(asJson);
    }
}
