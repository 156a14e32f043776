using System.IO.Pipelines;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace Pandora.Server.Hosting;

/// <summary>
/// How slowly a client may read an answer. Kestrel's rate alone does not bound an answer that is written in pieces: it gives each piece the
/// whole grace. So the pieces of a long one are also held to the rate all together.
/// </summary>
internal sealed class ReadingPace(TimeProvider time)
{
    /// <summary>Least that a client must read, in bytes a second on average.</summary>
    public const int MinRate = 64 * 1024;

    /// <summary>Time that a client may take besides: for its first bytes, and for pauses.</summary>
    public static readonly TimeSpan Grace = TimeSpan.FromSeconds(10);

    private readonly long _start = time.GetTimestamp();

    /// <summary>The same for every answer that is written at once, such as lists and metrics.</summary>
    public static MinDataRate ForKestrel => new(MinRate, Grace);

    /// <summary>Bytes that were given to the connection.</summary>
    public long Written { get; private set; }

    /// <summary>Waits until the client has taken enough of what was written.</summary>
    /// <param name="body">The answer.</param>
    /// <param name="written">How much of it was written until now.</param>
    /// <param name="aborted">The client is gone.</param>
    /// <exception cref="TimeoutException">The client is too slow.</exception>
    /// <exception cref="OperationCanceledException">The client is gone.</exception>
    public async ValueTask FlushAsync(PipeWriter body, long written, CancellationToken aborted)
    {
        var flushing = body.FlushAsync(aborted);
        if (!flushing.IsCompleted)
        {
            // What it took until now is what had been written before.
            var left = Grace + TimeSpan.FromSeconds((double)written / MinRate) - time.GetElapsedTime(_start);
            await flushing.AsTask().WaitAsync(left > TimeSpan.Zero ? left : TimeSpan.Zero, time, aborted);
        }
        else
        {
            await flushing;
        }

        Written = written;
        aborted.ThrowIfCancellationRequested();
    }
}
