using System.Globalization;
using Pandora.Linux;

namespace Pandora.Server.Audit;

/// <summary>
/// The audit's files: the newest is <c>audit.jsonl</c>. When it is full it becomes <c>audit-000001.jsonl</c>, with the next number, and the
/// oldest file is deleted. Nothing is opened before the first line.
/// </summary>
/// <param name="directory">Their directory, which only the server's user can use.</param>
/// <param name="maxBytes">Size that a file does not exceed, unless one line does.</param>
/// <param name="maxFiles">Files that are kept.</param>
internal sealed class AuditFile(string directory, long maxBytes, int maxFiles) : IDisposable
{
    private const string Name = "audit", Extension = ".jsonl";
    private const UnixFileMode FileMode600 = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode DirectoryMode = FileMode600 | UnixFileMode.UserExecute;
    private readonly Lock _lock = new();
    private readonly string _newest = NewestIn(directory);
    private FileStream? _file;

    /// <summary>The directory of an instance's audit.</summary>
    public static string DirectoryIn(string dataDirectory) => Path.Combine(dataDirectory, Name);

    /// <summary>The newest file of a directory, which need not exist.</summary>
    public static string NewestIn(string directory) => Path.Combine(directory, Name + Extension);

    /// <summary>The full files of a directory, oldest first.</summary>
    public static IReadOnlyList<string> FullIn(string directory) => !Directory.Exists(directory)
        ? []
        : [.. Directory.EnumerateFiles(directory, $"{Name}-*{Extension}").Where(f => NumberOf(f) > 0).OrderBy(NumberOf)];

    /// <summary>Appends a line. It reaches the kernel before this returns, and the disk when the kernel writes it.</summary>
    /// <param name="line">The line with its line break.</param>
    /// <exception cref="IOException">It could not be written, and nothing of it is in the file.</exception>
    /// <exception cref="UnauthorizedAccessException">The file could not be opened.</exception>
    public void Append(ReadOnlySpan<byte> line)
    {
        lock (_lock)
        {
            var (file, length) = Open();
            if (length > 0 && length + line.Length > maxBytes)
            {
                Rotate();
                (file, length) = Open();
            }

            try
            {
                RandomAccess.Write(file.SafeFileHandle, line, length);
            }
            catch
            {
                Truncate(file, length);
                Close();
                throw;
            }
        }
    }

    /// <summary>Writes everything to the disk.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            Close();
        }
    }

    private static int NumberOf(string path) =>
        int.TryParse(
            Path.GetFileNameWithoutExtension(path.AsSpan())[(Name.Length + 1)..], NumberStyles.None, CultureInfo.InvariantCulture,
            out var number)
            ? number
            : 0;

    // The operator may have moved, deleted, replaced or emptied the file meanwhile: its length is read anew for each line.
    private (FileStream File, long Length) Open()
    {
        if (_file is not null && !FileStatus.IsSame(_newest, _file.SafeFileHandle))
        {
            Close();
        }

        if (_file is null)
        {
            Directory.CreateDirectory(directory, DirectoryMode);
            File.SetUnixFileMode(directory, DirectoryMode);
            _file = new FileStream(_newest, new FileStreamOptions
            {
                Mode = FileMode.OpenOrCreate,
                Access = FileAccess.ReadWrite,
                Share = FileShare.ReadWrite | FileShare.Delete,
                BufferSize = 0,
                UnixCreateMode = FileMode600,
            });
            File.SetUnixFileMode(_file.SafeFileHandle, FileMode600);
            EndLine(_file);
        }

        return (_file, RandomAccess.GetLength(_file.SafeFileHandle));
    }

    // A server that was killed may have left half a line, which must not become part of the next.
    private static void EndLine(FileStream file)
    {
        var length = RandomAccess.GetLength(file.SafeFileHandle);
        Span<byte> last = [(byte)'\n'];
        if (length > 0)
        {
            RandomAccess.Read(file.SafeFileHandle, last, length - 1);
        }

        if (last[0] != '\n')
        {
            RandomAccess.Write(file.SafeFileHandle, "\n"u8, length);
        }
    }

    private void Rotate()
    {
        Close();
        var full = FullIn(directory);
        var number = full.Count == 0 ? 1 : NumberOf(full[^1]) + 1;
        File.Move(_newest, Path.Combine(directory, string.Create(CultureInfo.InvariantCulture, $"{Name}-{number:d6}{Extension}")));
        foreach (var old in FullIn(directory).SkipLast(maxFiles - 1))
        {
            File.Delete(old);
        }
    }

    private static void Truncate(FileStream file, long length)
    {
        try
        {
            file.SetLength(length);
        }
        catch (IOException)
        {
            // The next opening ends the half line.
        }
    }

    private void Close()
    {
        if (_file is { } file)
        {
            _file = null;
            using (file)
            {
                RandomAccess.FlushToDisk(file.SafeFileHandle);
            }
        }
    }
}
