using Microsoft.Win32.SafeHandles;

namespace Pandora.Vmm.Linux;

/// <summary>Copies of mostly empty disk images.</summary>
public static class SparseFile
{
    /// <summary>Copies only the ranges that hold data (lseek(2), SEEK_DATA), leaving holes where the source has them.</summary>
    public static void Copy(string source, string target)
    {
        using var from = File.OpenHandle(source);
        using var to = File.OpenHandle(target, FileMode.CreateNew, FileAccess.Write);
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(to, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        }

        var length = RandomAccess.GetLength(from);
        var buffer = new byte[128 * 1024];
        for (var offset = Seek(from, 0, Libc.SeekData); offset >= 0 && offset < length; offset = Seek(from, offset, Libc.SeekData))
        {
            var end = Seek(from, offset, Libc.SeekHole);
            while (offset < end)
            {
                var count = RandomAccess.Read(from, buffer.AsSpan(0, (int)Math.Min(buffer.Length, end - offset)), offset);
                RandomAccess.Write(to, buffer.AsSpan(0, count), offset);
                offset += count;
            }
        }

        if (Libc.Truncate((int)to.DangerousGetHandle(), length) != 0)
        {
            throw new IOException($"'{target}' could not be sized to {length} bytes");
        }
    }

    // Negative (ENXIO) when there is no data after the offset.
    private static long Seek(SafeFileHandle file, long offset, int whence) =>
        Libc.Seek((int)file.DangerousGetHandle(), offset, whence);
}
