using Microsoft.AspNetCore.Server.Kestrel.Core.Features;

namespace Pandora.Server.Api.Files;

/// <summary>The body of a request that writes files, of any length. Reading it fails when the client sends nothing for a while.</summary>
/// <param name="body">The body.</param>
/// <param name="time">Clock of the limit.</param>
internal sealed class FileBody(Stream body, TimeProvider time) : Stream
{
    /// <summary>Longest that a client may send nothing.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

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
    /// <param name="isGzip">Whether it is decompressed.</param>
    public static Stream Open(HttpContext context, bool isGzip = false)
    {
        // A pipe may be behind it.
        if (context.Features.Get<IHttpMinRequestBodyDataRateFeature>() is { } rate)
        {
            rate.MinDataRate = null;
        }

        var body = new FileBody(context.Request.Body, context.RequestServices.GetRequiredService<TimeProvider>());
        return isGzip ? new GzipBody(body) : body;
    }

    /// <inheritdoc/>
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var reading = body.ReadAsync(buffer, stop.Token);
        if (reading.IsCompleted)
        {
            return await reading;
        }

        var task = reading.AsTask();
        await ((Task)task).WaitAsync(Patience, time, CancellationToken.None).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (task.IsCompleted)
        {
            return await task;
        }

        await stop.CancelAsync();
        await ((Task)task).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        throw new BadHttpRequestException("nothing of the body came for a while", StatusCodes.Status408RequestTimeout);
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
