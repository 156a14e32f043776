using System.IO.Pipelines;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace Pandora.Server.Hosting;

/// <summary>
/// Enforces how fast a client must read an answer. Kestrel's rate alone does not bound an answer that is written in pieces: each piece gets
/// the whole grace time. So this class measures the rate over all pieces of a long answer together.
/// </summary>
internal sealed class ReadingPace(TimeProvider time)
{
    /// <summary>The lowest average rate at which a client must read, in bytes per second.</summary>
    public const int MinRate = 64 * 1024;

    /// <summary>Time that a client gets in addition, for its first bytes and for pauses.</summary>
    public static readonly TimeSpan Grace = TimeSpan.FromSeconds(10);

    private readonly long _start = time.GetTimestamp();

    /// <summary>The same limit for answers that are written at once, such as lists and metrics.</summary>
    public static MinDataRate ForKestrel => new(MinRate, Grace);

    /// <summary>Bytes that were written to the connection.</summary>
    public long Written { get; private set; }

    /// <summary>Flushes the answer, and waits until the client has read enough of it.</summary>
    /// <param name="body">The answer.</param>
    /// <param name="written">Bytes of the answer that were written until now.</param>
    /// <param name="aborted">Cancelled when the client is gone.</param>
    /// <exception cref="TimeoutException">The client is too slow.</exception>
    /// <exception cref="OperationCanceledException">The client is gone.</exception>
    public async ValueTask FlushAsync(PipeWriter body, long written, CancellationToken aborted)
    {
        var flushing = body.FlushAsync(aborted);
        if (!flushing.IsCompleted)
        {
            // The client has read everything that was written before this piece.
            var remaining = Grace + TimeSpan.FromSeconds((double)written / MinRate) - time.GetElapsedTime(_start);
            await flushing.AsTask().WaitAsync(remaining > TimeSpan.Zero ? remaining : TimeSpan.Zero, time, aborted);
        }
        else
        {
            await flushing;
        }

        Written = written;
        aborted.ThrowIfCancellationRequested();
    }
}
