using Pandora.Engine.Guests;

namespace Pandora.Engine.Sandboxes;

// The input of processes.
public sealed partial class Sandbox
{
    private readonly InputTurns _inputTurns = new();

    /// <summary>Ends a process's input.</summary>
    /// <exception cref="PandoraException">There is no such process, it has no input, or it has ended.</exception>
    public Task EndInputAsync(string id, CancellationToken cancellationToken) =>
        ControlAsync(
            id,
            Audit(AuditOperation.ProcessInput, id),
            (process, stop) =>
            {
                MustHaveInput(process);
                return process.EndInputAsync(stop);
            },
            cancellationToken);

    /// <summary>Writes to a process's input, as the bytes come.</summary>
    /// <param name="id">The process.</param>
    /// <param name="input">The bytes.</param>
    /// <param name="offset">Offset of the first byte in all input of the process, when the client repeats what may have arrived; null to
    /// append.</param>
    /// <param name="cancellationToken">Ends the writing; what was accepted stays.</param>
    /// <exception cref="PandoraException">There is no such process, it has no input, it has ended, or the offset is too large.</exception>
    public async Task WriteInputAsync(string id, Stream input, long? offset, CancellationToken cancellationToken)
    {
        if (offset is null)
        {
            await WriteInputInTurnAsync(id, input, offset, cancellationToken);
            return;
        }

        using var turn = await _inputTurns.TakeAsync(id, cancellationToken);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(turn.Taken, cancellationToken);
        try
        {
            await WriteInputInTurnAsync(id, input, offset, stop.Token);
        }
        catch (OperationCanceledException e) when (turn.Taken.IsCancellationRequested)
        {
            throw new PandoraException(
                PandoraError.ProcessState, $"another request writes to process '{id}' from an offset; this one gave up", innerException: e);
        }
    }

    private Task WriteInputInTurnAsync(string id, Stream input, long? offset, CancellationToken cancellationToken)
    {
        var line = Audit(AuditOperation.ProcessInput, id);
        line.InputBytes = 0;
        return ControlAsync(
            id,
            line,
            async (process, ended, stop) =>
            {
                MustHaveInput(process);
                var skipped = process.Facts.InputOffset - (offset ?? process.Facts.InputOffset);
                if (skipped < 0)
                {
                    throw new PandoraException(
                        PandoraError.ProcessState,
                        $"the input begins at {offset}, and the process '{id}' has {process.Facts.InputOffset} bytes: some are missing");
                }

                var buffer = new byte[32 * 1024];
                while (!process.IsInputLost && await ReadWhileRunsAsync(input, buffer, ended, stop) is var count && count > 0)
                {
                    var left = (int)Math.Min(skipped, count);
                    skipped -= left;
                    if (left < count)
                    {
                        await process.WriteInputAsync(buffer.AsMemory(left, count - left), stop);
                        line.InputBytes += count - left;
                        Touch();
                    }
                }

                return await process.WaitForInputAsync(stop)
                    || (process.IsInputLost
                        ? throw new PandoraException(
                            PandoraError.ProcessState, $"process '{id}' takes no more input: it has ended, or is not read any more")
                        : false);
            },
            cancellationToken);
    }

    private static void MustHaveInput(IGuestProcess process)
    {
        if (!process.Facts.HasInput)
        {
            throw new PandoraException(PandoraError.ProcessState, $"process '{process.Id}' was started without an input");
        }
    }

    // A client that sends slowly, or nothing more, must learn that the process has ended.
    private static async Task<int> ReadWhileRunsAsync(Stream input, byte[] buffer, Task ended, CancellationToken cancellationToken)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var reading = input.ReadAsync(buffer, stop.Token).AsTask();
        if (await Task.WhenAny(reading, ended) == ended && !reading.IsCompleted)
        {
            await stop.CancelAsync();
            await ((Task)reading).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw new PandoraException(PandoraError.ProcessState, "the process has ended");
        }

        return await reading;
    }
}
