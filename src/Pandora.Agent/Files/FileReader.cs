using Pandora.Agent.Protocol.Files;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Files;

/// <summary>Reads a regular file.</summary>
internal static class FileReader
{
    // Filesystems whose files have sizes that say nothing about what is read: sysfs, debugfs, tracefs (linux/magic.h).
    private static readonly long[] s_falseSizes = [0x62656572, 0x64626720, 0x74726163];

    /// <summary>Does a request.</summary>
    public static FileResult Run(FileWork work)
    {
        var (request, path) = (work.Request, work.Path);
        using var file = OpenFile.Regular(FileCalls.NoDirectory, path, 0, path, out var status);
        if (HasFalseSize(file.Descriptor))
        {
            status = status with { Size = 0 };
        }

        work.SendEntry(FilePath.Clean(path), status);
        var offset = request.Offset >= 0 ? request.Offset : Math.Max(0, status.Size + request.Offset);
        // A file without a size may have content all the same, as those of /proc.
        var isSized = status.Size > 0;
        var rest = isSized ? Math.Max(0, status.Size - offset) : long.MaxValue;
        rest = request.Length >= 0 ? Math.Min(rest, request.Length) : rest;
        if (offset > 0 && rest > 0)
        {
            FileFailedException.Check((int)Math.Min(0, FileCalls.Seek(file.Descriptor, offset, FileCalls.SeekSet)), path);
        }

        var bytes = 0L;
        while (rest > 0)
        {
            var count = FileFailedException.Check(
                FileCalls.Read(file.Descriptor, work.Chunk[..(int)Math.Min(rest, FileWork.ChunkSize)]), path);
            if (count == 0)
            {
                return isSized ? throw BecameShorter(path) : new FileResult(Bytes: bytes, Entries: 1);
            }

            work.Pipe.WriteBuffer(work.Message.AsSpan(0, ProcessMessages.HeaderSize + count), FileMessage.Read);
            (rest, bytes) = (rest - count, bytes + count);
        }

        return new FileResult(Bytes: bytes, Entries: 1);
    }

    /// <summary>Whether the size of an open file says nothing about what is read of it.</summary>
    public static bool HasFalseSize(int descriptor) => s_falseSizes.Contains(FileCalls.FilesystemOf(descriptor));

    /// <summary>The failure of a file that has fewer bytes than it had.</summary>
    public static FileFailedException BecameShorter(ReadOnlySpan<byte> path) =>
        new(FileFailureKind.Guest, $"{FilePath.Show(path)} became shorter while it was read");
}
