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
        Description = $"Give the command this program's standard input: any bytes, at most {Limits.Size(Limits.MaxStdinBytes)}, "
            + "read to its end before the command starts. Without -i the input is empty",
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
        command.Options.Add(_interactive);
        command.Options.Add(_merge);
    }

    /// <summary>The request that the command line describes, with the command's standard input. With JSON the answer is printed as it is,
    /// so it has the outputs as text; else it has their bytes.</summary>
    /// <exception cref="StoppedException">The user stopped it while the input was read.</exception>
    public async Task<ExecRequest> ReadAsync(ParseResult result, CancellationToken cancellationToken)
    {
        var request = new ExecRequest(
            CommandTail.ToCode(result.GetRequiredValue(_words)), result.GetValue(_timeout), result.GetValue(_cwd),
            Shared.Pairs("--env", result.GetValue(_env)), result.GetValue(_user))
        {
            Encoding = result.GetValue(Shared.Json) ? null : ByteEncodings.Base64,
            Merge = result.GetValue(_merge) ? true : null,
        };
        if (!result.GetValue(_interactive))
        {
            return request;
        }

        try
        {
            using var input = Console.OpenStandardInput();
            var bytes = await CommandInput.ReadAsync(input, cancellationToken);
            return request with { Stdin = Convert.ToBase64String(bytes.Span), StdinEncoding = ByteEncodings.Base64 };
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

        Write(PandoraApi.Decode(response.Stdout), PandoraApi.Decode(response.Stderr));
        Warn(response.Truncated, response.Oom, response.MemoryLimitBytes);
        return response.ExitCode;
    }

    /// <summary>Prints what a command that ran into its timeout had written, and returns the exit code of timeout(1). With JSON the output
    /// is a part of the error.</summary>
    public static int Print(ExecTimeoutException timeout, bool asJson)
    {
        if (!asJson)
        {
            Write(timeout.StdoutBytes, timeout.StderrBytes);
            Warn(timeout.IsTruncated, timeout.IsOutOfMemory, timeout.MemoryLimit);
        }

        return Failure.Of(timeout)!.Print(asJson);
    }

    // As bytes: a console's text writer would change those that are not UTF-8.
    private static void Write(ReadOnlyMemory<byte>? stdout, ReadOnlyMemory<byte>? stderr)
    {
        using var output = Console.OpenStandardOutput();
        output.Write((stdout ?? default).Span);
        using var error = Console.OpenStandardError();
        error.Write((stderr ?? default).Span);
    }

    private static void Warn(bool? isTruncated, bool? isOutOfMemory, long? memoryLimit)
    {
        if (isTruncated == true)
        {
            Console.Error.WriteLine($"pandora: the output was longer than the {Limits.Size(Limits.MaxOutputBytes)} that are kept");
        }

        if (isOutOfMemory == true)
        {
            var limit = memoryLimit is { } bytes ? $" ({Limits.Size(bytes)})" : "";
            Console.Error.WriteLine($"pandora: the sandbox's memory{limit} was full, and its kernel killed a process of the command");
        }
    }
}
