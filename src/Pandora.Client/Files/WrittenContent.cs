using System.Net;
using System.Runtime.ExceptionServices;

namespace Pandora.Client;

/// <summary>A body that is written while it is sent. It does not own its source.</summary>
/// <param name="write">Writes it.</param>
/// <param name="length">Its bytes; null when they are not known before.</param>
/// <param name="canBeginAgain">Whether it can be written again from its beginning.</param>
internal sealed class WrittenContent(Func<Stream, CancellationToken, Task> write, long? length, bool canBeginAgain) : HttpContent
{
    /// <summary>Bytes; null when they are not known.</summary>
    public long? Length => length;

    /// <summary>Whether it can be written again from its beginning.</summary>
    public bool CanBeginAgain => canBeginAgain;

    /// <summary>Whether anything was read for it.</summary>
    public bool HasBegun { get; private set; }

    /// <summary>Why its source could not be read; null when it could, or when the connection broke first.</summary>
    public ExceptionDispatchInfo? Failure { get; private set; }

    protected override bool TryComputeLength(out long computed)
    {
        computed = length ?? 0;
        return length is not null;
    }

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) =>
        SerializeToStreamAsync(stream, context, CancellationToken.None);

    protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        HasBegun = true;
        var output = new WatchedOutput(stream);
        await using var closing = output.ConfigureAwait(false);
        try
        {
            await write(output, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (!output.HasFailed && e is not OperationCanceledException)
        {
            Failure = ExceptionDispatchInfo.Capture(e);
            throw;
        }
    }

    /// <summary>Knows whether an exception came from the connection.</summary>
    private sealed class WatchedOutput(Stream inner) : Stream
    {
        public bool HasFailed { get; private set; }

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            try
            {
                await inner.WriteAsync(buffer, cancellationToken).ConfigureAwait(false);
            }
            catch
            {
                HasFailed = true;
                throw;
            }
        }

        public override void Write(byte[] buffer, int offset, int count) =>
            WriteAsync(buffer.AsMemory(offset, count)).AsTask().GetAwaiter().GetResult();

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
