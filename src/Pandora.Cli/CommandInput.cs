using Pandora.Contracts;

namespace Pandora.Cli;

/// <summary>Standard input of a command, read to its end before the command starts, because the API takes it with the request.</summary>
internal static class CommandInput
{
    /// <summary>Reads it to its end.</summary>
    /// <exception cref="UsageException">It is longer than <see cref="Limits.MaxStdinBytes"/>.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static async Task<ReadOnlyMemory<byte>> ReadAsync(Stream input, CancellationToken cancellationToken)
    {
        var bytes = new byte[Limits.MaxStdinBytes + 1];
        // A terminal or a pipe without a writer is read by a thread that no token reaches: this waits, and the program's end ends the
        // thread.
        var length = await Task.Run(() => input.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false), cancellationToken)
            .WaitAsync(cancellationToken);
        if (length > Limits.MaxStdinBytes)
        {
            throw new UsageException(
                $"standard input is longer than the {Limits.Size(Limits.MaxStdinBytes)} that a command is given: send it in parts, "
                + "or let the sandbox fetch it");
        }

        return bytes.AsMemory(0, length);
    }
}
