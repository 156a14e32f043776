using System.Buffers.Text;

namespace Pandora.Agent.Files.Tar;

/// <summary>What pax headers say of the next entry (POSIX.1-2017, pax, "pax Extended Header").</summary>
internal sealed class TarPax
{
    private long? _allModifiedAt;
    private long? _modifiedAt;

    /// <summary>The name; null for that of the header.</summary>
    public byte[]? Path { get; private set; }

    /// <summary>What the link contains; null for that of the header.</summary>
    public byte[]? LinkPath { get; private set; }

    /// <summary>Bytes of content; null for those of the header.</summary>
    public long? Size { get; private set; }

    /// <summary>When it was last changed, in nanoseconds since 1970; null for the time of the header.</summary>
    public long? ModifiedAt => _modifiedAt ?? _allModifiedAt;

    /// <summary>Whether the content is a map of data and holes in GNU's format.</summary>
    public bool IsSparse { get; private set; }

    /// <summary>What stays for the entries after the next one.</summary>
    public TarPax ForNext() => new() { _allModifiedAt = _allModifiedAt };

    /// <summary>Reads the records of a header.</summary>
    /// <exception cref="FileFailedException">They are none.</exception>
    public void Read(ReadOnlySpan<byte> records, bool isGlobal)
    {
        while (!records.IsEmpty)
        {
            // "LENGTH KEY=VALUE\n", and the length counts all of it.
            if (!Utf8Parser.TryParse(records, out int length, out var digits) || length <= digits + 2 || length > records.Length ||
                records[digits] != ' ' || records[length - 1] != '\n')
            {
                throw TarReader.Damaged("a pax header is damaged");
            }

            var record = records[(digits + 1)..(length - 1)];
            var equals = record.IndexOf((byte)'=');
            if (equals <= 0)
            {
                throw TarReader.Damaged("a pax header has a record without a key");
            }

            Set(record[..equals], record[(equals + 1)..], isGlobal);
            records = records[length..];
        }
    }

    // Owners and others are not used.
    private void Set(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value, bool isGlobal)
    {
        if (key.SequenceEqual("mtime"u8))
        {
            long? time = value.IsEmpty ? null : Time(value);
            if (isGlobal)
            {
                _allModifiedAt = time;
            }
            else
            {
                _modifiedAt = time;
            }
        }
        else if (key.SequenceEqual("path"u8) || key.SequenceEqual("linkpath"u8) || key.SequenceEqual("size"u8))
        {
            if (isGlobal)
            {
                throw TarReader.Damaged("a pax header gives all entries one name or size");
            }

            SetOwn(key, value);
        }
        else if (key.StartsWith("GNU.sparse."u8))
        {
            IsSparse = true;
        }
    }

    private void SetOwn(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        if (key.SequenceEqual("path"u8))
        {
            Path = value.IsEmpty ? null : value.ToArray();
        }
        else if (key.SequenceEqual("linkpath"u8))
        {
            LinkPath = value.IsEmpty ? null : value.ToArray();
        }
        else
        {
            Size = value.IsEmpty ? null
                : Utf8Parser.TryParse(value, out long size, out var used) && used == value.Length && size >= 0 ? size
                : throw TarReader.Damaged("a pax header has a wrong size");
        }
    }

    private static long Time(ReadOnlySpan<byte> value)
    {
        // decimal has 28 digits, which are more than a time needs; the rest is cut off.
        const decimal Most = 9_223_372_036m;
        if (!Utf8Parser.TryParse(value[..Math.Min(value.Length, 25)], out decimal seconds, out var used) ||
            used != Math.Min(value.Length, 25))
        {
            throw TarReader.Damaged("a pax header has a wrong time");
        }

        return (long)(Math.Clamp(seconds, -Most, Most) * 1_000_000_000m);
    }
}
