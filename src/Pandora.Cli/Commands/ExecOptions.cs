using System.CommandLine;
using System.Text;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary>The options by which <c>run</c> and <c>exec</c> describe a command, and the way they print its outcome.</summary>
internal sealed class ExecOptions
{
    private readonly Argument<string[]> _words = new("command") { Description = "One word is shell text; several are a program and its arguments", Arity = ArgumentArity.OneOrMore };
    private readonly Option<double> _timeout = new("--timeout") { Description = "Seconds after which it is killed, 1 to 300", DefaultValueFactory = _ => 300 };
    private readonly Option<string> _cwd = new("--cwd") { Description = "Directory to run in (default: the user's home)" };
    private readonly Option<string> _user = new("--user") { Description = "User to run as (default: root)" };
    private readonly Option<string[]> _env = new("--env", "-e") { Description = "Environment variable, name=value; may be repeated" };

    public void AddTo(Command command)
    {
        command.Arguments.Add(_words);
        command.Options.Add(_timeout);
        command.Options.Add(_cwd);
        command.Options.Add(_user);
        command.Options.Add(_env);
    }

    public async Task<ExecRequest> ReadAsync(ParseResult result, CancellationToken cancellationToken) => new(
        CommandTail.ToCode(result.GetRequiredValue(_words)), result.GetValue(_timeout), result.GetValue(_cwd),
        Shared.Pairs("--env", result.GetValue(_env)), result.GetValue(_user), await ReadInputAsync(cancellationToken));

    /// <summary>Prints both outputs and returns the command's exit code.</summary>
    public static int Print(ExecResult execution)
    {
        Console.Out.Write(execution.Stdout);
        Console.Error.Write(execution.Stderr);
        if (execution.IsTruncated)
        {
            Console.Error.WriteLine("pandora: the output was longer than the 10 MiB that are kept");
        }

        return execution.ExitCode;
    }

    /// <summary>Prints what a command that ran into its timeout had written, and returns the exit code of timeout(1).</summary>
    public static int Print(ExecTimeoutException timeout)
    {
        Console.Out.Write(timeout.Stdout);
        Console.Error.Write(timeout.Stderr);
        Console.Error.WriteLine($"pandora: {timeout.Message}");
        return 124;
    }

    private static async Task<string?> ReadInputAsync(CancellationToken cancellationToken)
    {
        if (!Console.IsInputRedirected)
        {
            return null;
        }

        try
        {
            await using var input = Console.OpenStandardInput();
            using var reader = new StreamReader(input, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true));
            return await reader.ReadToEndAsync(cancellationToken);
        }
        catch (DecoderFallbackException)
        {
            throw new UsageException("standard input is not UTF-8 text, and bytes cannot be sent as they are: send them as base64 and decode in the sandbox");
        }
    }
}
