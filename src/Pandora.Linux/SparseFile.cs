using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;

namespace Pandora.Linux;

/// <summary>Copies and hashes disk images that are mostly empty.</summary>
public static class SparseFile
{
    private const int BlockBytes = 64 * 1024;

    /// <summary>
    /// Copies a file. The copy shares the source's blocks if the file system supports that. Else only the ranges that hold data are copied
    /// (lseek(2), SEEK_DATA), and the copy has the same holes as the source.
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

    /// <summary>Copies a file's data into an open file.</summary>
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

    /// <summary>Computes the SHA-256 of a file's length and of its data with the offsets. Holes cost no time.</summary>
    public static string Hash(string path, CancellationToken cancellationToken = default)
    {
        using var file = File.OpenHandle(path);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var length = RandomAccess.GetLength(file);
        hash.AppendData(BitConverter.GetBytes(length));
        ReadData(file, length, (offset, data) =>
        {
            cancellationToken.ThrowIfCancellationRequested();
            // A block of zeros and a hole must have the same hash, because they read the same.
            if (data.ContainsAnyExcept((byte)0))
            {
                hash.AppendData(BitConverter.GetBytes(offset));
                hash.AppendData(data);
            }
        });
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private delegate void DataReader(long offset, ReadOnlySpan<byte> data);

    // Reads blocks that begin at multiples of their size, independent of where the ranges begin.
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
