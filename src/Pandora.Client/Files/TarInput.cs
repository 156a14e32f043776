using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace Pandora.Client;

/// <summary>
/// Reads an archive that is not trusted, in bounded memory: ustar, pax, and GNU's long names. Own code, and not
/// <c>System.Formats.Tar</c>: that takes headers of any length into memory, takes an archive that was cut for a whole one, and makes other
/// names of those that are not UTF-8.
/// </summary>
/// <param name="input">The archive. It is not disposed.</param>
internal sealed class TarInput(Stream input)
{
    private const int MaxHeader = 1024 * 1024, MaxTrailer = 1024 * 1024, MaxHeaders = 16, UsualMode = 0x1A4;
    private const string Sparse = "GNU.sparse.";
    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);
    private readonly byte[] _buffer = new byte[128 * 1024];
    private int _begin, _end;
    private long _content, _fill;

    /// <summary>Goes to the next entry, past what is left of the last one's content; null at the archive's end.</summary>
    /// <exception cref="EndOfStreamException">The archive was cut.</exception>
    /// <exception cref="InvalidDataException">It is no archive, or has what is not taken.</exception>
    public async Task<TarEntry?> NextAsync(CancellationToken cancellationToken)
    {
        await SkipAsync(_content + _fill, cancellationToken).ConfigureAwait(false);
        (_content, _fill) = (0, 0);
        byte[]? longName = null, longLink = null;
        var pax = new Dictionary<string, byte[]>();
        for (var headers = 0; ; headers++)
        {
            if (headers > MaxHeaders)
            {
                throw new InvalidDataException($"the archive has more than the {MaxHeaders} headers that are taken before an entry");
            }

            var block = await TakeAsync(TarEntry.Block, cancellationToken).ConfigureAwait(false);
            if (!block.AsSpan().ContainsAnyExcept((byte)0))
            {
                await ReadEndAsync(cancellationToken).ConfigureAwait(false);
                return null;
            }

            CheckSum(block);
            var (type, size) = ((char)block[156], Number(block.AsSpan(124, 12)));
            if (type is not ('x' or 'g' or 'L' or 'K'))
            {
                return Entry(block, type, size, longName, longLink, pax);
            }

            if (size is < 0 or > MaxHeader)
            {
                throw new InvalidDataException($"a header in the archive has {size} bytes, more than the {MaxHeader} that are taken");
            }

            var data = await TakeAsync((int)size, cancellationToken).ConfigureAwait(false);
            await SkipAsync(FillOf(size), cancellationToken).ConfigureAwait(false);
            switch (type)
            {
                case 'x':
                    ReadPax(data, pax);
                    break;
                case 'L':
                    longName = UntilNul(data).ToArray();
                    break;
                case 'K':
                    longLink = UntilNul(data).ToArray();
                    break;
            }
        }
    }

    /// <summary>Reads content of the current entry; 0 at its end.</summary>
    /// <exception cref="EndOfStreamException">The archive was cut.</exception>
    public async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken)
    {
        if (_content == 0 || buffer.Length == 0)
        {
            return 0;
        }

        await NeedAsync(cancellationToken).ConfigureAwait(false);
        var length = (int)Math.Min(Math.Min(buffer.Length, _end - _begin), _content);
        _buffer.AsMemory(_begin, length).CopyTo(buffer);
        (_begin, _content) = (_begin + length, _content - length);
        return length;
    }

    private TarEntry Entry(
        byte[] block, char type, long size, byte[]? longName, byte[]? longLink, Dictionary<string, byte[]> pax)
    {
        if (type == 'S' || pax.ContainsKey(Sparse))
        {
            throw new InvalidDataException("the archive has a sparse file of GNU tar, which is not read");
        }

        if (pax.TryGetValue("size", out var text))
        {
            size = long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : -1;
        }

        if (size < 0 || size > long.MaxValue - TarEntry.Block)
        {
            throw new InvalidDataException("an entry of the archive has a size that is none");
        }

        // Links, directories and the like have none, whatever their header says.
        (_content, _fill) = type is TarEntry.HardLink or TarEntry.Link or TarEntry.CharacterDevice or TarEntry.BlockDevice
            or TarEntry.Directory or TarEntry.Fifo ? (0, 0) : (size, FillOf(size));
        var name = pax.GetValueOrDefault("path") ?? longName ?? NameOf(block);
        var link = pax.GetValueOrDefault("linkpath") ?? longLink ?? UntilNul(block.AsSpan(157, 100)).ToArray();
        var time = pax.TryGetValue("mtime", out var seconds)
            ? decimal.TryParse(
                Encoding.ASCII.GetString(seconds), NumberStyles.AllowDecimalPoint | NumberStyles.AllowLeadingSign,
                CultureInfo.InvariantCulture, out var exact) ? exact : null
            : (decimal?)Number(block.AsSpan(136, 12));
        var mode = Number(block.AsSpan(100, 8));
        return new TarEntry(TextOf(name), type, _content, mode < 0 ? UsualMode : (int)(mode & 0xFFF), TimeOf(time), TextOf(link));
    }

    private static byte[] NameOf(byte[] block)
    {
        var name = UntilNul(block.AsSpan(0, 100));
        var prefix = UntilNul(block.AsSpan(345, 155));
        // GNU's headers ("ustar  ") have other things there.
        return block.AsSpan(257).StartsWith("ustar\000"u8) && prefix.Length > 0 ? [.. prefix, (byte)'/', .. name] : name.ToArray();
    }

    private static ReadOnlySpan<byte> UntilNul(ReadOnlySpan<byte> bytes) =>
        bytes.IndexOf((byte)0) is >= 0 and var end ? bytes[..end] : bytes;

    private static string? TextOf(byte[] bytes)
    {
        try
        {
            return Strict.GetString(bytes);
        }
        catch (DecoderFallbackException)
        {
            return null;
        }
    }

    private static DateTimeOffset? TimeOf(decimal? seconds)
    {
        const long Least = -62_135_596_800, Most = 253_402_300_799;
        return seconds is >= Least and < Most ? DateTimeOffset.UnixEpoch.AddTicks((long)(seconds.Value * TimeSpan.TicksPerSecond)) : null;
    }

    private static void ReadPax(ReadOnlySpan<byte> data, Dictionary<string, byte[]> records)
    {
        while (data.Length > 0)
        {
            var space = data.IndexOf((byte)' ');
            if (space <= 0 || !int.TryParse(data[..space], NumberStyles.None, CultureInfo.InvariantCulture, out var length)
                || length <= space + 1 || length > data.Length || data[length - 1] != '\n')
            {
                throw new InvalidDataException("a pax header of the archive is not as it should be");
            }

            var record = data[(space + 1)..(length - 1)];
            var equals = record.IndexOf((byte)'=');
            if (equals <= 0)
            {
                throw new InvalidDataException("a pax header of the archive is not as it should be");
            }

            var key = Encoding.UTF8.GetString(record[..equals]);
            if (key is "path" or "linkpath" or "size" or "mtime")
            {
                records[key] = record[(equals + 1)..].ToArray();
            }
            else if (key.StartsWith(Sparse, StringComparison.Ordinal))
            {
                records[Sparse] = [];
            }

            data = data[length..];
        }
    }

    private static void CheckSum(byte[] block)
    {
        var sum = 0;
        for (var i = 0; i < block.Length; i++)
        {
            sum += i is >= 148 and < 156 ? ' ' : block[i];
        }

        if (Number(block.AsSpan(148, 8)) != sum)
        {
            throw new InvalidDataException("the archive has a header with a wrong checksum");
        }
    }

    // Octal digits, or with the highest bit set a big-endian number. -1 is none.
    private static long Number(ReadOnlySpan<byte> field)
    {
        if (field[0] >= 0x80)
        {
            return field[0] == 0x80 && !field[1..^8].ContainsAnyExcept((byte)0) ? BinaryPrimitives.ReadInt64BigEndian(field[^8..]) : -1;
        }

        long number = 0;
        foreach (var digit in field.Trim(" \0"u8))
        {
            if (digit is < (byte)'0' or > (byte)'7' || number > long.MaxValue >> 3)
            {
                return -1;
            }

            number = (number << 3) | (uint)(digit - '0');
        }

        return number;
    }

    private static int FillOf(long size) => (int)((TarEntry.Block - (size % TarEntry.Block)) % TarEntry.Block);

    // A second block of zeros, and what fills the last record. Without the second one the archive was cut.
    private async Task ReadEndAsync(CancellationToken cancellationToken)
    {
        if ((await TakeAsync(TarEntry.Block, cancellationToken).ConfigureAwait(false)).AsSpan().ContainsAnyExcept((byte)0))
        {
            throw new InvalidDataException("the archive has a block of zeros between its entries");
        }

        // Read to the end, so that the connection can be used again.
        long rest = _end - _begin;
        while (rest < MaxTrailer && await input.ReadAsync(_buffer, cancellationToken).ConfigureAwait(false) is > 0 and var length)
        {
            rest += length;
        }
    }

    private async Task<byte[]> TakeAsync(int length, CancellationToken cancellationToken)
    {
        var bytes = new byte[length];
        for (var taken = 0; taken < length;)
        {
            await NeedAsync(cancellationToken).ConfigureAwait(false);
            var part = Math.Min(length - taken, _end - _begin);
            _buffer.AsSpan(_begin, part).CopyTo(bytes.AsSpan(taken));
            (_begin, taken) = (_begin + part, taken + part);
        }

        return bytes;
    }

    private async Task SkipAsync(long length, CancellationToken cancellationToken)
    {
        while (length > 0)
        {
            await NeedAsync(cancellationToken).ConfigureAwait(false);
            var part = (int)Math.Min(length, _end - _begin);
            (_begin, length) = (_begin + part, length - part);
        }
    }

    private async ValueTask NeedAsync(CancellationToken cancellationToken)
    {
        if (_begin < _end)
        {
            return;
        }

        (_begin, _end) = (0, await input.ReadAsync(_buffer, cancellationToken).ConfigureAwait(false));
        if (_end == 0)
        {
            throw new EndOfStreamException("the archive ended before its end");
        }
    }
}
