using System.Buffers;
using System.IO.Compression;
using Pandora.Engine.Sandboxes;

namespace Pandora.Server.Api.Files;

/// <summary>
/// A directory as a tar archive, as it comes from the guest. When it does not come to its end, the connection is cut: no client takes a
/// part for the whole.
/// </summary>
/// <param name="files">The archive that is read, which is disposed of at the end.</param>
/// <param name="isGzip">Whether it is compressed.</param>
internal sealed class FileArchive(SandboxFiles files, bool isGzip) : IResult
{
    /// <summary>The types of the answer.</summary>
    public const string ContentType = "application/x-tar", GzipType = "application/gzip";

    /// <inheritdoc/>
    public async Task ExecuteAsync(HttpContext httpContext)
    {
        await using var disposing = files.ConfigureAwait(false);
        var response = httpContext.Response;
        response.ContentType = isGzip ? GzipType : ContentType;
        response.Headers.XContentTypeOptions = "nosniff";
        EventStream.Prepare(response);
        if (HeadRequests.IsHead(httpContext))
        {
            files.Complete();
            return;
        }

        var answer = new FileAnswerWriter(httpContext);
        try
        {
            await (isGzip ? CompressAsync(answer) : CopyAsync(answer));
            await answer.FlushAsync();
        }
        catch (Exception e) when (FileAnswerWriter.IsCut(e))
        {
            httpContext.Abort();
        }
    }

    private async Task CopyAsync(FileAnswerWriter answer)
    {
        while (await answer.NextAsync(files) is { } piece)
        {
            await answer.WriteAsync(piece);
        }
    }

    private async Task CompressAsync(FileAnswerWriter answer)
    {
        var compressed = new ArrayBufferWriter<byte>();
        var gzip = new GZipStream(new BufferStream(compressed), CompressionLevel.Fastest);
        while (await answer.NextAsync(files) is { } piece)
        {
            gzip.Write(piece.Span);
            await TakeAsync();
        }

        // Only here: its end says that the archive is whole.
        await gzip.DisposeAsync();
        await TakeAsync();

        async Task TakeAsync()
        {
            if (compressed.WrittenCount > 0)
            {
                await answer.WriteAsync(compressed.WrittenMemory);
                compressed.ResetWrittenCount();
            }
        }
    }

    /// <summary>Keeps what is written in memory.</summary>
    private sealed class BufferStream(ArrayBufferWriter<byte> buffer) : Stream
    {
        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override void Write(ReadOnlySpan<byte> bytes) => buffer.Write(bytes);

        public override void Write(byte[] bytes, int offset, int count) => buffer.Write(bytes.AsSpan(offset, count));

        public override void Flush()
        {
        }

        public override int Read(byte[] bytes, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
