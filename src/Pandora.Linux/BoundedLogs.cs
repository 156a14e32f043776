using System.Collections.Concurrent;
using System.Text;

namespace Pandora.Linux;

/// <summary>
/// Limits the size of files that other processes append to, because a guest can make its VMM write without end. Four times a second, a file
/// that is too long is emptied, and its end is kept in a second file.
/// </summary>
/// <remarks>Some of the files are in a VMM's jail, where the VMM can replace them. A link or another file in place of the log is neither
/// read nor emptied.</remarks>
public sealed class BoundedLogs : IDisposable
{
    private const long MaxBytes = 256 * 1024;
    private const int KeptBytes = 64 * 1024;
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);
    private readonly ConcurrentDictionary<string, bool> _paths = new();
    private readonly ITimer _timer;

    /// <param name="time">Clock of the interval.</param>
    public BoundedLogs(TimeProvider time) => _timer = time.CreateTimer(_ => Bound(), null, Interval, Interval);

    /// <summary>Watches a file until it no longer exists.</summary>
    public void Watch(string path) => _paths[path] = true;

    /// <summary>Reads the newest text of a file, at most 64 KiB; empty when there is no file.</summary>
    public static string ReadEnd(string path)
    {
        var text = ReadEndOf(path);
        if (text.Length >= KeptBytes || !File.Exists(Kept(path)))
        {
            return text;
        }

        var both = ReadEndOf(Kept(path)) + text;
        return both.Length > KeptBytes ? both[^KeptBytes..] : both;
    }

    /// <inheritdoc/>
    public void Dispose() => _timer.Dispose();

    private void Bound()
    {
        foreach (var (path, _) in _paths)
        {
            try
            {
                if (new FileInfo(path).Length > MaxBytes)
                {
                    Empty(path);
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It is looked at again, unless the microVM has ended and its directory no longer exists. When the server has no more
                // descriptors the file cannot be opened, and stat(2) still works.
                if (!File.Exists(path))
                {
                    _paths.TryRemove(path, out _);
                }
            }
        }
    }

    private static void Empty(string path)
    {
        using var directory = RootedDirectory.Open(Path.GetDirectoryName(path)!);
        using var handle = directory.OpenFile(Path.GetFileName(path), FileAccess.ReadWrite, isOwn: true);
        using var file = new FileStream(handle, FileAccess.ReadWrite);
        var end = Encoding.UTF8.GetBytes(ReadEndOf(file));
        directory.WriteFile(Path.GetFileName(Kept(path)), end, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        file.SetLength(0);
    }

    private static string Kept(string path) => path + ".end";

    private static string ReadEndOf(string path)
    {
        try
        {
            using var directory = RootedDirectory.Open(Path.GetDirectoryName(path)!);
            using var handle = directory.OpenFile(Path.GetFileName(path), isOwn: true);
            using var file = new FileStream(handle, FileAccess.Read);
            return ReadEndOf(file);
        }
        catch (IOException)
        {
            return "";
        }
    }

    private static string ReadEndOf(FileStream file)
    {
        file.Seek(Math.Max(0, file.Length - KeptBytes), SeekOrigin.Begin);
        using var reader = new StreamReader(file, leaveOpen: true);
        // If the writer does not append, its next write after the file was emptied leaves a hole, which reads as NULs.
        return reader.ReadToEnd().TrimStart('\0');
    }
}
