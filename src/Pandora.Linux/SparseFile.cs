using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;

namespace Pandora.Linux;

/// <summary>Copies of mostly empty disk images.</summary>
public static class SparseFile
{
    private const int BlockBytes = 64 * 1024;

    /// <summary>
    /// Shares the source's blocks where the file system can, and else copies only the ranges that hold data (lseek(2), SEEK_DATA), leaving
    /// holes where the source has them.
    /// </summary>
    public static void Copy(string source, string target)
    {
        using var from = File.OpenHandle(source);
        using var to = File.OpenHandle(target, FileMode.CreateNew, FileAccess.Write);
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(to, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        }

        if (Libc.TryClone((int)from.DangerousGetHandle(), (int)to.DangerousGetHandle()))
        {
            return;
        }

        CopyData(from, to);
    }

    /// <summary>Copies a file's data into an open one.</summary>
    public static void Copy(string source, SafeFileHandle target)
    {
        using var from = File.OpenHandle(source);
        CopyData(from, target);
    }

    private static void CopyData(SafeFileHandle from, SafeFileHandle to)
    {
        var length = RandomAccess.GetLength(from);
        ReadData(from, length, (offset, data) => RandomAccess.Write(to, data, offset));
        if (Libc.Truncate((int)to.DangerousGetHandle(), length) != 0)
        {
            throw new IOException($"a copy could not be sized to {length} bytes");
        }
    }

    /// <summary>SHA-256 of a file's length and of the ranges that hold data and where they are, so that holes cost nothing.</summary>
    public static string Hash(string path, CancellationToken cancellationToken = default)
    {
        using var file = File.OpenHandle(path);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var length = RandomAccess.GetLength(file);
        hash.AppendData(BitConverter.GetBytes(length));
        ReadData(file, length, (offset, data) =>
        {
            cancellationToken.ThrowIfCancellationRequested();
            // What is written as zeros and what was never written are the same to a reader.
            if (data.ContainsAnyExcept((byte)0))
            {
                hash.AppendData(BitConverter.GetBytes(offset));
                hash.AppendData(data);
            }
        });
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private delegate void DataReader(long offset, ReadOnlySpan<byte> data);

    // In blocks that begin at multiples of their size, whatever the ranges.
    private static void ReadData(SafeFileHandle file, long length, DataReader read)
    {
        var buffer = new byte[BlockBytes];
        for (var offset = Seek(file, 0, Libc.SeekData); offset >= 0 && offset < length; offset = Seek(file, offset, Libc.SeekData))
        {
            var end = Math.Min(length, Seek(file, offset, Libc.SeekHole));
            for (offset -= offset % BlockBytes; offset < end;)
            {
                var count = RandomAccess.Read(file, buffer, offset);
                if (count == 0)
                {
                    return;
                }

                read(offset, buffer.AsSpan(0, count));
                offset += count;
            }
        }
    }

    // Negative (ENXIO) when there is no data after the offset.
    private static long Seek(SafeFileHandle file, long offset, int whence) =>
        Libc.Seek((int)file.DangerousGetHandle(), offset, whence);
}
