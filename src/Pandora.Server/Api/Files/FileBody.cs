using Microsoft.AspNetCore.Server.Kestrel.Core.Features;

namespace Pandora.Server.Api.Files;

/// <summary>The body of a request that writes files, of any length. Reading it fails when the client sends nothing for a while.</summary>
/// <param name="body">The body.</param>
/// <param name="time">Clock of the limit.</param>
internal sealed class FileBody(Stream body, TimeProvider time) : Stream
{
    /// <summary>Longest that a client may send nothing.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    /// <summary>Longest that the rest of a body is read after the answer.</summary>
    public static readonly TimeSpan DrainLimit = TimeSpan.FromSeconds(60);

    private readonly byte[] _buffer = new byte[64 * 1024];
    private int _begin, _end;
    private Task<int>? _reading;

    /// <inheritdoc/>
    public override bool CanRead => true;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override bool CanWrite => false;

    /// <inheritdoc/>
    public override long Length => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>Opens the body of a request, which may come as slowly as its client sends it.</summary>
    /// <param name="context">The request.</param>
    public static FileBody Open(HttpContext context)
    {
        // A pipe may be behind it.
        if (context.Features.Get<IHttpMinRequestBodyDataRateFeature>() is { } rate)
        {
            rate.MinDataRate = null;
        }

        return new FileBody(context.Request.Body, context.RequestServices.GetRequiredService<TimeProvider>());
    }

    /// <inheritdoc/>
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (_begin == _end)
        {
            // The web server gives up a connection whose body was being read when the answer was sent: a read is never cut.
            var reading = _reading ??= body.ReadAsync(_buffer, CancellationToken.None).AsTask();
            if (!reading.IsCompleted)
            {
                await ((Task)reading).WaitAsync(Patience, time, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                cancellationToken.ThrowIfCancellationRequested();
                if (!reading.IsCompleted)
                {
                    throw new BadHttpRequestException("nothing of the body came for a while", StatusCodes.Status408RequestTimeout);
                }
            }

            (_begin, _end) = (0, await reading);
            _reading = null;
        }

        var count = Math.Min(buffer.Length, _end - _begin);
        _buffer.AsMemory(_begin, count).CopyTo(buffer);
        _begin += count;
        return count;
    }

    /// <summary>Reads what is left, for a client that reads the answer only after it has sent all. It takes <see cref="DrainLimit"/> at
    /// most; a connection on which more is left is closed.</summary>
    public async Task DrainAsync(CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(DrainLimit, time);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        // What was read besides the first byte is dropped with it.
        var first = new byte[1];
        try
        {
            do
            {
                (_begin, _end) = (0, 0);
            }
            while (await ReadAsync(first, stop.Token) > 0);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException)
        {
            // The client sends nothing more, or too much: it may have the answer all the same.
        }
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void Flush()
    {
    }

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}
