namespace Pandora.Linux;

/// <summary>Lock files, with flock(2): the kernel releases the lock when its holder ends, also after a crash or a kill.</summary>
internal static class LockFile
{
    private const int WouldBlock = 11; // EAGAIN

    /// <summary>Makes the file if necessary and locks it. The holder may delete the file before it releases the lock.</summary>
    /// <returns>Null when another process holds the lock.</returns>
    /// <exception cref="IOException">The file cannot be made.</exception>
    public static FileStream? TryOpen(string path)
    {
        while (true)
        {
            FileStream? file = null;
            try
            {
                file = new FileStream(
                    path,
                    new FileStreamOptions
                    {
                        Mode = FileMode.OpenOrCreate,
                        Access = FileAccess.ReadWrite,
                        Share = FileShare.None,
                        UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
                    });
                // The last holder may have deleted the file after this process opened it and before it locked it.
                if (FileStatus.Find(path)?.Inode == FileStatus.Of(file.SafeFileHandle).Inode)
                {
                    var locked = file;
                    file = null;
                    return locked;
                }
            }
            catch (IOException e) when (e.HResult == WouldBlock)
            {
                return null;
            }
            finally
            {
                file?.Dispose();
            }
        }
    }
}
