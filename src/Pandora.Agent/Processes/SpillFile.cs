namespace Pandora.Agent.Processes;

/// <summary>
/// Output that has left a process's ring, in a file on the guest's disk that no user can open, because it has no name. A byte's place in
/// the file is its offset; what is dropped becomes a hole.
/// </summary>
internal sealed class SpillFile
{
    /// <summary>Most bytes in the files of all processes together.</summary>
    public const long Limit = 64L * 1024 * 1024;

    private const long Reserve = 4 * 1024 * 1024;
    private static long s_total;
    private static int s_lastName;
    private readonly int _file = Open();
    private ulong _end;

    /// <summary>Where the files are made; a test has another place.</summary>
    public static string Directory { get; set; } = "/var/lib/pandora";

    /// <summary>Whether there is room, also for what several processes may have left at their end.</summary>
    /// <param name="droppable">Bytes that may be dropped for it.</param>
    public static bool HasRoom(long droppable) => s_total - droppable < Limit - Reserve;

    /// <summary>Number of bytes that are kept before an offset.</summary>
    public long CountBefore(ulong offset) => Math.Max(0, (long)(Math.Min(offset, _end) - Begin));

    /// <summary>Offset of the first byte that is kept.</summary>
    public ulong Begin { get; private set; }

    /// <summary>Number of bytes that are kept.</summary>
    public long Count => (long)(_end - Begin);

    /// <summary>Adds bytes. When there is no room for them on the disk, they are dropped with all before.</summary>
    public void Append(ulong offset, ReadOnlySpan<byte> bytes)
    {
        if (offset != _end)
        {
            DropTo(_end);
            (Begin, _end) = (offset, offset);
        }

        if (s_total + bytes.Length > Limit)
        {
            // In large steps: each is a system call.
            DropTo(Math.Min(_end, Begin + (1024 * 1024)));
        }

        var isWritten = s_total + bytes.Length <= Limit && Linux.WriteAt(_file, bytes, offset);
        _end = offset + (ulong)bytes.Length;
        s_total += bytes.Length;
        if (!isWritten)
        {
            DropTo(_end);
        }
    }

    /// <summary>Copies bytes from an offset on.</summary>
    /// <returns>How many.</returns>
    public int Read(ulong offset, Span<byte> target) => Math.Max(0, Linux.ReadAt(_file, target, offset));

    /// <summary>Drops all bytes.</summary>
    public void Clear() => DropTo(_end);

    /// <summary>Gives the disk's space back.</summary>
    public void Close()
    {
        s_total -= Count;
        Begin = _end;
        if (_file >= 0)
        {
            Linux.Close(_file);
        }
    }

    private static int Open()
    {
        // It may be there already, and then belongs to the root that made it: only root's directory is used.
        Linux.MakeDirectory(Directory);
        return Linux.OpenUnnamed($"{Directory}/.output-{++s_lastName}");
    }

    private void DropTo(ulong offset)
    {
        Linux.PunchHole(_file, Begin, offset);
        s_total -= (long)(offset - Begin);
        Begin = offset;
    }
}
