using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Sessions;

/// <summary>A command's output and end on this program's outputs.</summary>
internal static class CommandOutput
{
    /// <summary>Writes a piece of output as it is, or that a piece is missing.</summary>
    public static void Write(ProcessOutput output)
    {
        switch (output.Kind)
        {
            case ProcessOutputKind.Stdout:
                Descriptors.Write(1, output.Bytes.Span);
                break;
            case ProcessOutputKind.Stderr:
                Descriptors.Write(2, output.Bytes.Span);
                break;
            case ProcessOutputKind.Dropped:
                Console.Error.WriteLine(
                    $"pandora: {output.EndOffset - output.Offset} bytes of output are missing here: they are not kept any more");
                break;
        }
    }

    /// <summary>Tells what the output does not show, and returns the exit code: the command's own, or that of timeout(1).</summary>
    public static int End(ExitedEvent exit, bool isTruncated)
    {
        Warn(isTruncated, exit.Oom, exit.MemoryLimitBytes);
        if (exit.TimedOut != true)
        {
            return exit.ExitCode;
        }

        return new Failure(Failure.TimedOut, ExecCollector.ProblemOf(exit)).Print(asJson: false);
    }

    /// <summary>Tells what the output does not show.</summary>
    public static void Warn(bool? isTruncated, bool? isOutOfMemory, long? memoryLimit)
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
