using System.Buffers;
using System.Buffers.Binary;

namespace Pandora.Agent.Files;

/// <summary>The names in a directory, close together in memory, in the order of their bytes.</summary>
internal sealed class NameList
{
    /// <summary>Most names of a directory.</summary>
    public const int MostNames = 1_000_000;

    private readonly ArrayBufferWriter<byte> _bytes = new();
    private readonly List<(int Begin, int Length)> _names = [];

    /// <summary>Number of names.</summary>
    public int Count => _names.Count;

    /// <summary>One of the names.</summary>
    public ReadOnlySpan<byte> this[int index] => _bytes.WrittenSpan.Slice(_names[index].Begin, _names[index].Length);

    /// <summary>Reads the names in a directory, but "." and "..".</summary>
    /// <param name="directory">Its descriptor, at its beginning.</param>
    /// <param name="most">Most names; with more, the rest is left.</param>
    /// <param name="path">The path for messages.</param>
    /// <exception cref="FileFailedException">It could not be read.</exception>
    public static NameList Read(int directory, int most, ReadOnlySpan<byte> path)
    {
        // struct linux_dirent64: inode, offset, length of the entry, type, name.
        const int LengthAt = 16, NameAt = 19;
        var list = new NameList();
        Span<byte> buffer = stackalloc byte[16 * 1024];
        while (list.Count < most)
        {
            // The kernel says so of a directory that was removed, which has no names.
            var count = FileCalls.ReadEntries(directory, buffer);
            if (count is 0 or FileCalls.NoEntry)
            {
                break;
            }

            FileFailedException.Check(count, path);
            for (var rest = (ReadOnlySpan<byte>)buffer[..count]; !rest.IsEmpty;)
            {
                var length = BinaryPrimitives.ReadUInt16LittleEndian(rest[LengthAt..]);
                var name = rest[NameAt..length];
                list.Add(name[..name.IndexOf((byte)0)]);
                rest = rest[length..];
            }
        }

        list._names.Sort((a, b) => list.Slice(a).SequenceCompareTo(list.Slice(b)));
        return list;
    }

    private void Add(ReadOnlySpan<byte> name)
    {
        if (!FilePath.IsDots(name))
        {
            _names.Add((_bytes.WrittenCount, name.Length));
            _bytes.Write(name);
        }
    }

    private ReadOnlySpan<byte> Slice((int Begin, int Length) name) => _bytes.WrittenSpan.Slice(name.Begin, name.Length);
}
