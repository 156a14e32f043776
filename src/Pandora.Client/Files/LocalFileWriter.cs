namespace Pandora.Client;

/// <summary>
/// Writes a local file beside its place and moves it there when it is whole. Blocks of zeros become holes. The bits setuid, setgid and
/// sticky are never set: the file comes from a sandbox.
/// </summary>
internal sealed class LocalFileWriter : IAsyncDisposable
{
    private const int HoleBlock = 4096, PermissionBits = 0x1FF, Own = 0x180, UsualMode = 0x1A4;
    private readonly string _path, _temporary;
    private readonly FileStream _stream;
    private readonly bool _isReplaced;

    // What has come of a block that is not whole yet: pieces have any size, and holes are whole blocks.
    private readonly byte[] _block = new byte[HoleBlock];
    private int _held;
    private bool _isDone;

    private LocalFileWriter(string path, string temporary, FileStreamOptions options)
    {
        (_path, _temporary, _isReplaced) = (path, temporary, path != temporary);
        _stream = new FileStream(temporary, options);
    }

    /// <summary>Begins a file. What is there is replaced at the end, a link itself and not its target.</summary>
    public static LocalFileWriter Create(string path)
    {
        var temporary = Path.Combine(Path.GetDirectoryName(path)!, $".pandora-{Guid.NewGuid():N}");
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, BufferSize = 0 };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = (UnixFileMode)Own;
        }

        return new LocalFileWriter(path, temporary, options);
    }

    /// <summary>Begins to write into what is no regular file, such as a FIFO or <c>/dev/null</c>.</summary>
    public static LocalFileWriter Open(string path) =>
        new(path, path, new FileStreamOptions { Mode = FileMode.Open, Access = FileAccess.Write, BufferSize = 0 });

    /// <summary>Writes content, which follows the last, in pieces of any size.</summary>
    public async ValueTask WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        if (!_isReplaced)
        {
            await _stream.WriteAsync(bytes, cancellationToken).ConfigureAwait(false);
            return;
        }

        if (_held > 0)
        {
            var more = Math.Min(HoleBlock - _held, bytes.Length);
            bytes[..more].CopyTo(_block.AsMemory(_held));
            (_held, bytes) = (_held + more, bytes[more..]);
            if (_held < HoleBlock)
            {
                return;
            }

            await WriteBlocksAsync(_block, cancellationToken).ConfigureAwait(false);
            _held = 0;
        }

        var whole = bytes.Length - (bytes.Length % HoleBlock);
        await WriteBlocksAsync(bytes[..whole], cancellationToken).ConfigureAwait(false);
        bytes[whole..].CopyTo(_block);
        _held = bytes.Length - whole;
    }

    /// <summary>The content is whole: the file is put into its place.</summary>
    /// <param name="mode">Permission bits; null for those that new files have.</param>
    /// <param name="modifiedAt">When the content was last changed; null for now.</param>
    public async Task CompleteAsync(int? mode, DateTimeOffset? modifiedAt)
    {
        if (!_isReplaced)
        {
            await _stream.DisposeAsync().ConfigureAwait(false);
            return;
        }

        await WriteBlocksAsync(_block.AsMemory(0, _held), CancellationToken.None).ConfigureAwait(false);
        // A hole at the end.
        _stream.SetLength(_stream.Position);
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(_stream.SafeFileHandle, (UnixFileMode)((mode ?? UsualMode) & PermissionBits));
        }

        if (modifiedAt is { } time)
        {
            File.SetLastWriteTimeUtc(_stream.SafeFileHandle, time.UtcDateTime);
        }

        await _stream.DisposeAsync().ConfigureAwait(false);
        File.Move(_temporary, _path, overwrite: true);
        _isDone = true;
    }

    /// <summary>Closes it. A file that is not whole is deleted.</summary>
    public async ValueTask DisposeAsync()
    {
        await _stream.DisposeAsync().ConfigureAwait(false);
        if (_isReplaced && !_isDone)
        {
            File.Delete(_temporary);
        }
    }

    // The file is at the begin of a block.
    private async ValueTask WriteBlocksAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        while (bytes.Length > 0)
        {
            var length = PartOf(bytes.Span, out var isHole);
            if (isHole)
            {
                _stream.Seek(length, SeekOrigin.Current);
            }
            else
            {
                await _stream.WriteAsync(bytes[..length], cancellationToken).ConfigureAwait(false);
            }

            bytes = bytes[length..];
        }
    }

    // The blocks until those of zeros begin or end. The last may be a part of one.
    private static int PartOf(ReadOnlySpan<byte> bytes, out bool isHole)
    {
        var length = 0;
        isHole = false;
        while (length < bytes.Length)
        {
            var block = bytes.Slice(length, Math.Min(HoleBlock, bytes.Length - length));
            var isZero = !block.ContainsAnyExcept((byte)0);
            if (length > 0 && isZero != isHole)
            {
                break;
            }

            (isHole, length) = (isZero, length + block.Length);
        }

        return length;
    }
}
