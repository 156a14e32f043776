using System.Globalization;
using System.Net;
using System.Net.Http.Headers;

namespace Pandora.Client;

/// <summary>The content of a file over any number of connections: each byte once and in order, all of one version.</summary>
internal sealed class FileReadStream : Stream
{
    private readonly PandoraApi _api;
    private readonly string _sandboxId, _path;
    private readonly ReadFileOptions _options;
    private readonly Reconnection _reconnection;
    private readonly EntityTagHeaderValue? _etag;
    private readonly long? _length;
    private HttpResponseMessage? _response;
    private Stream? _body;
    private long _read;
    private bool _isDisposed;

    private FileReadStream(
        PandoraApi api, string sandboxId, string path, ReadFileOptions options, HttpResponseMessage response, Stream body)
    {
        (_api, _sandboxId, _path, _options, _response, _body) = (api, sandboxId, path, options, response, body);
        (_etag, _length) = (response.Headers.ETag, response.Content.Headers.ContentLength);
        Mode = ModeOf(response);
        _reconnection = new Reconnection(api);
    }

    /// <summary>The file's permission bits; null when the server does not say.</summary>
    public UnixFileMode? Mode { get; }

    public override bool CanRead => !_isDisposed;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    /// <summary>Bytes of this stream.</summary>
    /// <exception cref="NotSupportedException">The file has no size.</exception>
    public override long Length => _length ?? throw new NotSupportedException("the file has no size that is known before it is read");

    /// <summary>Whether <see cref="Length"/> is known.</summary>
    public bool HasLength => _length is not null;

    public override long Position { get => _read; set => throw new NotSupportedException(); }

    public static async Task<FileReadStream> OpenAsync(
        PandoraApi api, string sandboxId, string path, ReadFileOptions options, CancellationToken cancellationToken)
    {
        var last = options.Count is { } count ? options.Offset + count - 1 : (long?)null;
        var response = await api.OpenFileAsync(sandboxId, path, options.User, options.Offset, last, null, cancellationToken)
            .ConfigureAwait(false);
        try
        {
            Check(response, options.Offset, options.Offset > 0 || last is not null);
            var body = await response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
            return new FileReadStream(api, sandboxId, path, options, response, body);
        }
        catch
        {
            response.Dispose();
            throw;
        }
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (buffer.Length == 0)
        {
            return 0;
        }

        while (true)
        {
            PandoraClientException cause;
            try
            {
                _body ??= await ReopenAsync(cancellationToken).ConfigureAwait(false);
                var length = await _body.ReadAsync(buffer, cancellationToken).ConfigureAwait(false);
                if (length > 0)
                {
                    _read += length;
                    _reconnection.Worked();
                    return length;
                }

                if (_length is null || _read == _length)
                {
                    return 0;
                }

                cause = new UnexpectedAnswerException($"the file's content ended after {_read} of {_length} bytes");
            }
            catch (PandoraClientException e)
            {
                cause = e;
            }
            catch (Exception e) when (e is IOException or HttpRequestException)
            {
                var words = string.Create(CultureInfo.InvariantCulture, $"after {_read} bytes of the file");
                cause = new UnexpectedAnswerException($"the connection to the server broke {words}: {e.Message}", e);
            }

            Disconnect();
            // Without a version and a length the rest could be that of another content.
            if (_etag is null || _etag.IsWeak || _length is null)
            {
                throw cause;
            }

            await _reconnection.WaitAsync(cause, cancellationToken).ConfigureAwait(false);
        }
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(byte[] buffer, int offset, int count) =>
        ReadAsync(buffer.AsMemory(offset, count)).AsTask().GetAwaiter().GetResult();

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _isDisposed = true;
            Disconnect();
        }

        base.Dispose(disposing);
    }

    private static UnixFileMode? ModeOf(HttpResponseMessage response)
    {
        if (!response.Headers.TryGetValues("X-Pandora-Mode", out var values))
        {
            return null;
        }

        var mode = 0;
        foreach (var digit in values.First())
        {
            if (digit is < '0' or > '7' || mode > 0x1FF)
            {
                throw PandoraApi.NotUnderstood("the file's mode is not octal");
            }

            mode = (mode * 8) + digit - '0';
        }

        return (UnixFileMode)mode;
    }

    private static void Check(HttpResponseMessage response, long offset, bool isRange)
    {
        if (isRange && (response.StatusCode != HttpStatusCode.PartialContent || response.Content.Headers.ContentRange?.From != offset))
        {
            throw PandoraApi.NotUnderstood($"it is not the part of the file that begins at byte {offset}");
        }
    }

    private async Task<Stream> ReopenAsync(CancellationToken cancellationToken)
    {
        var offset = _options.Offset + _read;
        _response = await _api.OpenFileAsync(
            _sandboxId, _path, _options.User, offset, _options.Offset + _length - 1, _etag, cancellationToken).ConfigureAwait(false);
        Check(_response, offset, isRange: true);
        return await _response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
    }

    private void Disconnect()
    {
        _response?.Dispose();
        (_response, _body) = (null, null);
    }
}
