using System.Buffers.Binary;
using Pandora.Agent.Protocol.Files;

namespace Pandora.Agent.Files.Tar;

/// <summary>
/// Reads an archive: ustar, pax, GNU's and the old format. Names are bytes. Nothing in it is believed, and memory has bounds.
/// </summary>
/// <param name="read">Takes bytes of the archive; 0 at its end.</param>
internal sealed class TarReader(Func<Memory<byte>, int> read)
{
    private const int MostExtended = 1024 * 1024;
    private readonly byte[] _block = new byte[TarHeader.BlockSize];
    private readonly byte[] _skipped = new byte[16 * 1024];
    private TarPax _pax = new();
    private byte[]? _longName, _longLink;
    private long _rest;
    private int _padding;

    /// <summary>Reads the next entry. What was not read of the last one's content is left out.</summary>
    /// <returns>Null at the end of the archive.</returns>
    /// <exception cref="FileFailedException">It is no archive, or it is cut off.</exception>
    public TarEntry? Next()
    {
        while (true)
        {
            Skip(_rest + _padding);
            (_rest, _padding) = (0, 0);
            Fill(_block);
            if (!_block.AsSpan().ContainsAnyExcept((byte)0))
            {
                ReadToEnd();
                return null;
            }

            CheckSum();
            var kind = _block[TarHeader.KindAt];
            var size = Number(TarHeader.SizeAt, 12);
            switch (kind)
            {
                case (byte)'x':
                    _pax.Read(Extended(size), isGlobal: false);
                    break;
                case (byte)'g':
                    _pax.Read(Extended(size), isGlobal: true);
                    break;
                case (byte)'L':
                    _longName = Text(Extended(size));
                    break;
                case (byte)'K':
                    _longLink = Text(Extended(size));
                    break;
                case (byte)'V':
                    // A label of the whole archive.
                    break;
                default:
                    return Entry(kind, size);
            }
        }
    }

    /// <summary>Reads content of the entry that was returned last.</summary>
    /// <returns>0 at its end.</returns>
    /// <exception cref="FileFailedException">The archive is cut off.</exception>
    public int Read(Memory<byte> bytes)
    {
        if (_rest == 0)
        {
            return 0;
        }

        var count = read(bytes[..(int)Math.Min(bytes.Length, _rest)]);
        if (count == 0)
        {
            throw Damaged("it is cut off");
        }

        _rest -= count;
        return count;
    }

    /// <summary>The failure of a damaged archive.</summary>
    public static FileFailedException Damaged(string reason) => new(FileFailureKind.Archive, $"the archive: {reason}");

    private TarEntry Entry(byte kind, long size)
    {
        var (pax, longName, longLink) = (_pax, _longName, _longLink);
        (_pax, _longName, _longLink) = (pax.ForNext(), null, null);
        var name = pax.Path ?? longName ?? HeaderName();
        var link = pax.LinkPath ?? longLink ?? Text(_block.AsSpan(TarHeader.LinkAt, TarHeader.NameSize));
        if (kind == (byte)'S' || pax.IsSparse)
        {
            throw Damaged($"the entry {FilePath.Show(name)} is in one of GNU's sparse formats, which are not read");
        }

        kind = kind switch
        {
            0 when name.Length > 0 && name[^1] == '/' => (byte)TarKind.Directory,
            0 or (byte)'7' => (byte)TarKind.File,
            _ => kind,
        };
        if (kind is < (byte)TarKind.File or > (byte)TarKind.Fifo)
        {
            throw Damaged($"the entry {FilePath.Show(name)} is of the unknown kind {kind}");
        }

        // Others have no content, whatever their size says.
        size = kind == (byte)TarKind.File ? pax.Size ?? size : 0;
        (_rest, _padding) = (size, TarHeader.PaddingOf(size));
        return new TarEntry((TarKind)kind, name)
        {
            LinkName = link,
            Size = size,
            Mode = (uint)(Number(TarHeader.ModeAt, 8) & 0xFFF),
            ModifiedAt = pax.ModifiedAt ?? Time(Signed(TarHeader.TimeAt, 12)),
        };
    }

    private byte[] HeaderName()
    {
        var name = Text(_block.AsSpan(0, TarHeader.NameSize));
        // GNU's format has other fields where ustar has the beginning of the name.
        var isUstar = _block.AsSpan(TarHeader.MagicAt, 6).SequenceEqual("ustar\0"u8);
        var prefix = isUstar ? Text(_block.AsSpan(TarHeader.PrefixAt, TarHeader.PrefixSize)) : [];
        return prefix.Length == 0 ? name : FilePath.Join(prefix, name);
    }

    private byte[] Extended(long size)
    {
        if (size > MostExtended)
        {
            throw Damaged($"a header of {size} bytes, of at most {MostExtended}");
        }

        var bytes = new byte[size];
        Fill(bytes);
        Skip(TarHeader.PaddingOf(size));
        return bytes;
    }

    private void CheckSum()
    {
        var (sum, signed) = (0L, 0L);
        for (var i = 0; i < _block.Length; i++)
        {
            var value = i is >= TarHeader.ChecksumAt and < TarHeader.ChecksumAt + 8 ? (byte)' ' : _block[i];
            (sum, signed) = (sum + value, signed + (sbyte)value);
        }

        // Old programs added signed bytes.
        var given = Signed(TarHeader.ChecksumAt, 8);
        if (given != sum && given != signed)
        {
            throw Damaged("a header is damaged, or it is no tar archive");
        }
    }

    private long Number(int at, int length) =>
        Signed(at, length) is var value && value >= 0 ? value : throw Damaged("a header has a negative number");

    // Octal digits, or, for large numbers, bytes after a first one whose highest bit is set.
    private long Signed(int at, int length)
    {
        var field = _block.AsSpan(at, length);
        if ((field[0] & 0x80) != 0)
        {
            var high = field[..^8];
            var value = BinaryPrimitives.ReadInt64BigEndian(field[^8..]);
            if (length == 8)
            {
                value &= long.MaxValue;
                return (value & (1L << 62)) == 0 ? value : value | long.MinValue;
            }

            var isNegative = (high[0] & 0x40) != 0;
            var isFitting = isNegative
                ? value < 0 && !high.ContainsAnyExcept((byte)0xFF)
                : value >= 0 && high[0] == 0x80 && !high[1..].ContainsAnyExcept((byte)0);
            return isFitting ? value : throw Damaged("a header has a number that is too large");
        }

        var result = 0L;
        foreach (var digit in Text(field).AsSpan().Trim((byte)' '))
        {
            result = digit is >= (byte)'0' and <= (byte)'7' ? (result * 8) + digit - '0' : throw Damaged("a header has a wrong number");
        }

        return result;
    }

    private static long Time(long seconds) =>
        (long)Int128.Clamp((Int128)seconds * 1_000_000_000, long.MinValue, long.MaxValue);

    private static byte[] Text(ReadOnlySpan<byte> field) =>
        (field.IndexOf((byte)0) is var end && end < 0 ? field : field[..end]).ToArray();

    private void ReadToEnd()
    {
        while (read(_skipped) > 0)
        {
            // What follows the end has no meaning: it fills the last record of a tape.
        }
    }

    private void Skip(long count)
    {
        while (count > 0)
        {
            var part = _skipped.AsMemory(0, (int)Math.Min(count, _skipped.Length));
            Fill(part);
            count -= part.Length;
        }
    }

    private void Fill(Memory<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            var count = read(bytes);
            bytes = count > 0 ? bytes[count..] : throw Damaged("it is cut off");
        }
    }
}
