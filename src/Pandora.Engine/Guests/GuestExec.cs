namespace Pandora.Engine.Guests;

/// <summary>Runs a command in a guest and collects its output: the one adapter between commands and processes.</summary>
internal static class GuestExec
{
    /// <summary>Runs code in the guest's bash. Returns when that bash has exited, or was killed at its timeout.</summary>
    /// <param name="guest">The guest.</param>
    /// <param name="command">The command.</param>
    /// <param name="cancellationToken">Stops the command as its timeout does.</param>
    /// <exception cref="PandoraException">The guest does not answer, or the request names a directory or user that the guest does not
    /// have.</exception>
    /// <exception cref="OperationCanceledException">Cancelled. A <see cref="CommandStoppedException"/> says what became of the command; any
    /// other type means that nothing of it was run.</exception>
    public static async Task<GuestResult> ExecAsync(this IGuest guest, GuestCommand command, CancellationToken cancellationToken)
    {
        await using var process = await guest.StartAsync(command.ToSpec() with { IsReadOnce = true }, cancellationToken);
        using var ended = new CancellationTokenSource();
        var writing = WriteInputAsync(process, command.Stdin, ended.Token);
        try
        {
            var (stdout, stderr) = (new OutputCollector(command.OutputLimit), new OutputCollector(command.OutputLimit));
            var offset = 0L;
            for (; await process.ReadAsync(cancellationToken) is { } output; offset = output.Offset + output.Bytes.Length)
            {
                var collector = output.Stream == OutputStream.Stdout ? stdout : stderr;
                collector.IsTruncated |= output.Offset != offset;
                collector.Append(output.Bytes.Span);
            }

            var end = process.End!;
            // Of which output the last bytes were is not known.
            stdout.IsTruncated |= end.Offset is { } last && last != offset;
            return new GuestResult(end.ExitCode, stdout.Take(), stderr.Take(), end.Stopped, end.OomLimit);
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            throw new CommandStoppedException(await process.KillAsync(), cancellationToken);
        }
        finally
        {
            await ended.CancelAsync();
            await writing;
        }
    }

    private static async Task WriteInputAsync(IGuestProcess process, ReadOnlyMemory<byte> input, CancellationToken cancellationToken)
    {
        if (input.IsEmpty)
        {
            return;
        }

        try
        {
            await process.WriteInputAsync(input, cancellationToken);
            await process.EndInputAsync(cancellationToken);
        }
        catch (Exception e) when (e is PandoraException or OperationCanceledException)
        {
            // The process has ended, or its reader finds out why the guest does not answer.
        }
    }
}
