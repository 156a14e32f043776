namespace Pandora.Linux;

/// <summary>Files that are there to be locked, with flock(2): the kernel drops the lock when its holder ends, however it ends.</summary>
internal static class LockFile
{
    private const int WouldBlock = 11; // EAGAIN

    /// <summary>Makes the file if need be and locks it. The holder may delete it before it lets go.</summary>
    /// <returns>Null when another process has it.</returns>
    /// <exception cref="IOException">It cannot be made.</exception>
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
                // The last owner may have removed it between our opening and our locking it.
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
