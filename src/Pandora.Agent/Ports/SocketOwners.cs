using System.Buffers.Text;
using System.Globalization;
using System.Text;
using Pandora.Agent.Files;

namespace Pandora.Agent.Ports;

/// <summary>A program that has a socket.</summary>
/// <param name="Pid">Its pid.</param>
/// <param name="Program">Its name, as the kernel has it, printable.</param>
internal readonly record struct SocketOwner(int Pid, string? Program);

/// <summary>Finds the programs that have sockets, by the descriptors of all processes (proc(5), <c>/proc/pid/fd</c>).</summary>
internal static class SocketOwners
{
    private const int MostDescriptors = 20_000, MostOfOne = 4096, MostProcesses = 20_000;

    /// <summary>Finds the programs. No file is opened or looked at: a link is read, and what it leads to may answer never.</summary>
    /// <param name="inodes">Numbers of the sockets.</param>
    /// <returns>The programs of those sockets that were found: of one socket that has the lowest pid, as far as it can be told.</returns>
    public static Dictionary<ulong, SocketOwner> Find(IReadOnlySet<ulong> inodes)
    {
        Dictionary<ulong, SocketOwner> found = [];
        if (inodes.Count == 0)
        {
            return found;
        }

        var left = MostDescriptors;
        foreach (var pid in ReadNumbers("/proc"u8, MostProcesses))
        {
            if (left <= 0 || found.Count == inodes.Count)
            {
                break;
            }

            left -= FindOf(pid, Math.Min(left, MostOfOne), inodes, found);
        }

        return found;
    }

    /// <summary>Makes the name of a program printable: what cannot be printed is a question mark.</summary>
    public static string Clean(ReadOnlySpan<byte> name)
    {
        var text = new StringBuilder();
        foreach (var rune in Encoding.UTF8.GetString(name).EnumerateRunes())
        {
            var isPrintable = Rune.GetUnicodeCategory(rune) is not (UnicodeCategory.Control or UnicodeCategory.Format
                or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator or UnicodeCategory.PrivateUse
                or UnicodeCategory.OtherNotAssigned);
            text.Append(isPrintable ? rune.ToString() : "?");
        }

        return text.ToString();
    }

    private static int FindOf(int pid, int most, IReadOnlySet<ulong> inodes, Dictionary<ulong, SocketOwner> found)
    {
        var path = Encoding.ASCII.GetBytes($"/proc/{pid}/fd");
        var directory = FileCalls.Open(FileCalls.NoDirectory, path, FileCalls.OnlyDirectory);
        if (directory < 0)
        {
            // It has ended, or is another user's.
            return 1;
        }

        using var owned = new OpenFile(directory);
        var descriptors = ReadNumbers(directory, path, most);
        Span<byte> target = stackalloc byte[64];
        Span<byte> name = stackalloc byte[16];
        string? program = null;
        foreach (var descriptor in descriptors)
        {
            Utf8Formatter.TryFormat(descriptor, name, out var length);
            var count = FileCalls.ReadLink(directory, name[..length], target);
            if (count > 0 && InodeOf(target[..count]) is { } inode && inodes.Contains(inode))
            {
                found.TryAdd(inode, new SocketOwner(pid, program ??= NameOf(pid)));
            }
        }

        return descriptors.Count + 1;
    }

    private static ulong? InodeOf(ReadOnlySpan<byte> target)
    {
        var begin = "socket:["u8;
        return target.StartsWith(begin) && Utf8Parser.TryParse(target[begin.Length..], out ulong inode, out _) ? inode : null;
    }

    private static string NameOf(int pid)
    {
        var file = Linux.TryOpen($"/proc/{pid}/comm");
        if (file < 0)
        {
            return "";
        }

        Span<byte> bytes = stackalloc byte[64];
        var count = Math.Max(0, Linux.Read(file, bytes));
        Linux.Close(file);
        return Clean(bytes[..count].TrimEnd((byte)'\n'));
    }

    private static List<int> ReadNumbers(ReadOnlySpan<byte> path, int most)
    {
        using var directory = OpenFile.At(FileCalls.NoDirectory, path, FileCalls.OnlyDirectory);
        return ReadNumbers(directory.Descriptor, path, most);
    }

    // In their order.
    private static List<int> ReadNumbers(int directory, ReadOnlySpan<byte> path, int most)
    {
        NameList names;
        try
        {
            names = NameList.Read(directory, most, path);
        }
        catch (FileFailedException)
        {
            // The process has ended.
            return [];
        }

        List<int> numbers = [];
        for (var i = 0; i < names.Count; i++)
        {
            if (Utf8Parser.TryParse(names[i], out int number, out var length) && length == names[i].Length)
            {
                numbers.Add(number);
            }
        }

        numbers.Sort();
        return numbers;
    }
}
