using System.Globalization;
using System.Text;

namespace Pandora.Client;

/// <summary>Writes an archive to a stream: ustar headers, and pax headers for what does not fit into them.</summary>
/// <param name="output">The stream. It is not disposed.</param>
internal sealed class TarOutput(Stream output)
{
    private const int NameField = 100;
    private const long MostSize = 0x1FFFFFFFF, MostTime = 0x1FFFFFFFF;
    private readonly byte[] _buffer = new byte[128 * 1024];
    private int _used;

    /// <summary>Writes the header of an entry. Its content, where it has some, follows at once.</summary>
    public async ValueTask WriteHeaderAsync(TarEntry entry, CancellationToken cancellationToken)
    {
        var (name, link) = (Encoding.UTF8.GetBytes(entry.Name!), Encoding.UTF8.GetBytes(entry.LinkTarget!));
        var ticks = (entry.ModifiedAt ?? DateTimeOffset.UnixEpoch).UtcTicks - DateTimeOffset.UnixEpoch.Ticks;
        using var records = new MemoryStream();
        if (!Fits(name))
        {
            AddRecord(records, "path", name);
        }

        if (!Fits(link))
        {
            AddRecord(records, "linkpath", link);
        }

        if (entry.Size > MostSize)
        {
            AddRecord(records, "size", Encoding.ASCII.GetBytes(entry.Size.ToString(CultureInfo.InvariantCulture)));
        }

        if (ticks < 0 || ticks % TimeSpan.TicksPerSecond != 0 || ticks / TimeSpan.TicksPerSecond > MostTime)
        {
            var seconds = PandoraApi.SecondsText(new DateTimeOffset(ticks + DateTimeOffset.UnixEpoch.Ticks, TimeSpan.Zero));
            AddRecord(records, "mtime", Encoding.ASCII.GetBytes(seconds));
        }

        if (records.Length > 0)
        {
            await WriteBlockAsync("pax"u8.ToArray(), [], 'x', records.Length, 0x1A4, 0, cancellationToken).ConfigureAwait(false);
            await WriteAsync(records.ToArray(), cancellationToken).ConfigureAwait(false);
            await FillAsync(records.Length, cancellationToken).ConfigureAwait(false);
        }

        await WriteBlockAsync(
            name, link, entry.Type, entry.Size, entry.Mode, Math.Clamp(ticks / TimeSpan.TicksPerSecond, 0, MostTime), cancellationToken)
            .ConfigureAwait(false);
    }

    /// <summary>Writes the content of an entry.</summary>
    /// <param name="source">Where it is read.</param>
    /// <param name="size">Bytes, as the header says.</param>
    /// <param name="done">Is called with the bytes that were written.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <returns>Bytes that were written: less than <paramref name="size"/> when the source ended before; the archive is then no
    /// good.</returns>
    public async Task<long> WriteContentAsync(Stream source, long size, Action<long> done, CancellationToken cancellationToken)
    {
        long written = 0;
        while (written < size)
        {
            await MakeRoomAsync(cancellationToken).ConfigureAwait(false);
            var most = (int)Math.Min(size - written, _buffer.Length - _used);
            var length = await source.ReadAsync(_buffer.AsMemory(_used, most), cancellationToken).ConfigureAwait(false);
            if (length == 0)
            {
                return written;
            }

            (_used, written) = (_used + length, written + length);
            done(length);
        }

        await FillAsync(size, cancellationToken).ConfigureAwait(false);
        return written;
    }

    /// <summary>Writes the end of the archive, and all that is held.</summary>
    public async Task EndAsync(CancellationToken cancellationToken)
    {
        await WriteAsync(new byte[2 * TarEntry.Block], cancellationToken).ConfigureAwait(false);
        await FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static bool Fits(byte[] text) => text.Length <= NameField && !text.AsSpan().ContainsAnyExceptInRange((byte)0x20, (byte)0x7E);

    // "LENGTH key=value\n", where the length counts its own digits.
    private static void AddRecord(MemoryStream records, string key, byte[] value)
    {
        var rest = key.Length + value.Length + 3;
        var length = rest + 1;
        while (length != rest + length.ToString(CultureInfo.InvariantCulture).Length)
        {
            length = rest + length.ToString(CultureInfo.InvariantCulture).Length;
        }

        records.Write(Encoding.ASCII.GetBytes($"{length} {key}="));
        records.Write(value);
        records.WriteByte((byte)'\n');
    }

    private async ValueTask WriteBlockAsync(
        byte[] name, byte[] link, char type, long size, int mode, long time, CancellationToken cancellationToken)
    {
        var block = new byte[TarEntry.Block];
        name.AsSpan(0, Math.Min(name.Length, NameField)).CopyTo(block);
        Octal(block.AsSpan(100, 8), mode & 0xFFF);
        Octal(block.AsSpan(108, 8), 0);
        Octal(block.AsSpan(116, 8), 0);
        Octal(block.AsSpan(124, 12), Math.Min(size, MostSize));
        Octal(block.AsSpan(136, 12), time);
        block.AsSpan(148, 8).Fill((byte)' ');
        block[156] = (byte)type;
        link.AsSpan(0, Math.Min(link.Length, NameField)).CopyTo(block.AsSpan(157));
        "ustar\000"u8.CopyTo(block.AsSpan(257));
        var sum = 0;
        foreach (var one in block)
        {
            sum += one;
        }

        Octal(block.AsSpan(148, 7), sum);
        await WriteAsync(block, cancellationToken).ConfigureAwait(false);
    }

    // The last byte of a field is NUL.
    private static void Octal(Span<byte> field, long number)
    {
        field[^1] = 0;
        for (var i = field.Length - 2; i >= 0; i--, number >>= 3)
        {
            field[i] = (byte)('0' + (number & 7));
        }
    }

    private async ValueTask FillAsync(long size, CancellationToken cancellationToken)
    {
        var rest = (int)(size % TarEntry.Block);
        if (rest > 0)
        {
            await WriteAsync(new byte[TarEntry.Block - rest], cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        while (bytes.Length > 0)
        {
            await MakeRoomAsync(cancellationToken).ConfigureAwait(false);
            var length = Math.Min(bytes.Length, _buffer.Length - _used);
            bytes[..length].CopyTo(_buffer.AsMemory(_used));
            (_used, bytes) = (_used + length, bytes[length..]);
        }
    }

    private ValueTask MakeRoomAsync(CancellationToken cancellationToken) =>
        _used == _buffer.Length ? FlushAsync(cancellationToken) : ValueTask.CompletedTask;

    private async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        await output.WriteAsync(_buffer.AsMemory(0, _used), cancellationToken).ConfigureAwait(false);
        _used = 0;
    }
}
