using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Unicode;
using Pandora.Agent.Protocol.Files;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Files.Tar;

/// <summary>Writes an archive: ustar, with pax headers where its fields are too small.</summary>
/// <param name="pipe">Where it goes.</param>
internal sealed class TarWriter(RequestPipe pipe)
{
    private const long MostSize = 0x1_FFFF_FFFF, MostId = 0x1F_FFFF; // 8 GiB - 1, and 7 octal digits
    private readonly byte[] _message = new byte[ProcessMessages.HeaderSize + FileMessages.MaxBody];
    private int _count = ProcessMessages.HeaderSize;

    /// <summary>Writes the header of an entry; its content must follow.</summary>
    public void Add(TarEntry entry)
    {
        var records = Records(entry);
        if (records.Length > 0)
        {
            WriteHeader(entry with { Name = "././@PaxHeader"u8.ToArray(), LinkName = [], Size = records.Length, Mode = 0x1A4 }, (byte)'x');
            Write(records);
            Pad(records.Length);
        }

        WriteHeader(entry, (byte)entry.Kind);
    }

    /// <summary>Memory for content, which <see cref="Written"/> takes.</summary>
    public Span<byte> Room
    {
        get
        {
            if (_count == _message.Length)
            {
                Flush();
            }

            return _message.AsSpan(_count);
        }
    }

    /// <summary>Takes bytes that were put into <see cref="Room"/>.</summary>
    public void Written(int count) => _count += count;

    /// <summary>Fills the last block of a content.</summary>
    public void Pad(long size)
    {
        ReadOnlySpan<byte> zeros = stackalloc byte[TarHeader.BlockSize];
        Write(zeros[..TarHeader.PaddingOf(size)]);
    }

    /// <summary>Ends the archive, which is whole then.</summary>
    public void End()
    {
        Write(new byte[2 * TarHeader.BlockSize]);
        Flush();
    }

    private void Flush()
    {
        if (_count > ProcessMessages.HeaderSize)
        {
            pipe.WriteBuffer(_message.AsSpan(0, _count), FileMessage.Read);
            _count = ProcessMessages.HeaderSize;
        }
    }

    private void Write(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            var room = Room;
            var count = Math.Min(room.Length, bytes.Length);
            bytes[..count].CopyTo(room);
            Written(count);
            bytes = bytes[count..];
        }
    }

    private static byte[] Records(TarEntry entry)
    {
        var records = new ArrayBufferWriter<byte>();
        var (needsName, needsLink) = (NeedsRecord(entry.Name), NeedsRecord(entry.LinkName));
        if ((needsName && !Utf8.IsValid(entry.Name)) || (needsLink && !Utf8.IsValid(entry.LinkName)))
        {
            Record(records, "hdrcharset", "BINARY"u8);
        }

        if (needsName)
        {
            Record(records, "path", entry.Name);
        }

        if (needsLink)
        {
            Record(records, "linkpath", entry.LinkName);
        }

        if (entry.Size > MostSize)
        {
            Record(records, "size", Decimal(entry.Size));
        }

        if (entry.ModifiedAt % 1_000_000_000 != 0 || entry.ModifiedAt < 0 || entry.ModifiedAt / 1_000_000_000 > MostSize)
        {
            var seconds = (entry.ModifiedAt / 1_000_000_000m).ToString("0.#########", CultureInfo.InvariantCulture);
            Record(records, "mtime", Encoding.ASCII.GetBytes(seconds));
        }

        if (entry.UserId > MostId)
        {
            Record(records, "uid", Decimal(entry.UserId));
        }

        if (entry.GroupId > MostId)
        {
            Record(records, "gid", Decimal(entry.GroupId));
        }

        return records.WrittenSpan.ToArray();
    }

    private static bool NeedsRecord(byte[] name) => name.Length > TarHeader.NameSize || !Ascii.IsValid(name);

    private static byte[] Decimal(long value) => Encoding.ASCII.GetBytes(value.ToString(CultureInfo.InvariantCulture));

    private static void Record(ArrayBufferWriter<byte> records, string key, ReadOnlySpan<byte> value)
    {
        // The length counts its own digits.
        var rest = key.Length + value.Length + 3;
        var length = rest + Decimal(rest).Length;
        length = rest + Decimal(length).Length;
        records.Write(Encoding.ASCII.GetBytes($"{length} {key}="));
        records.Write(value);
        records.Write("\n"u8);
    }

    private void WriteHeader(TarEntry entry, byte kind)
    {
        Span<byte> block = stackalloc byte[TarHeader.BlockSize];
        block.Clear();
        Text(block[..TarHeader.NameSize], entry.Name);
        Octal(block.Slice(TarHeader.ModeAt, 8), entry.Mode);
        Octal(block.Slice(TarHeader.UserAt, 8), entry.UserId > MostId ? 0 : entry.UserId);
        Octal(block.Slice(TarHeader.GroupAt, 8), entry.GroupId > MostId ? 0 : entry.GroupId);
        Octal(block.Slice(TarHeader.SizeAt, 12), entry.Size > MostSize ? 0 : entry.Size);
        Octal(block.Slice(TarHeader.TimeAt, 12), Math.Clamp(entry.ModifiedAt / 1_000_000_000, 0, MostSize));
        block[TarHeader.KindAt] = kind;
        Text(block.Slice(TarHeader.LinkAt, TarHeader.NameSize), entry.LinkName);
        "ustar\u000000"u8.CopyTo(block[TarHeader.MagicAt..]);
        Name(block.Slice(TarHeader.UserNameAt, TarHeader.NameOfUserSize), entry.User);
        Name(block.Slice(TarHeader.GroupNameAt, TarHeader.NameOfUserSize), entry.Group);
        block.Slice(TarHeader.ChecksumAt, 8).Fill((byte)' ');
        var sum = 0;
        foreach (var b in block)
        {
            sum += b;
        }

        Octal(block.Slice(TarHeader.ChecksumAt, 7), sum);
        Write(block);
    }

    private static void Text(Span<byte> field, ReadOnlySpan<byte> text) => text[..Math.Min(text.Length, field.Length)].CopyTo(field);

    private static void Name(Span<byte> field, string? name)
    {
        if (name is not null && name.Length < field.Length && Ascii.IsValid(name))
        {
            Encoding.ASCII.GetBytes(name, field);
        }
    }

    // All digits but the last byte, which is NUL.
    private static void Octal(Span<byte> field, long value)
    {
        for (var i = field.Length - 2; i >= 0; i--)
        {
            field[i] = (byte)('0' + (value & 7));
            value >>= 3;
        }
    }
}
