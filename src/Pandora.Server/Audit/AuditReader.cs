using System.Text;
using System.Text.Json;
using Pandora.Linux;

namespace Pandora.Server.Audit;

/// <summary>One line that was read.</summary>
/// <param name="Place">File and number of the line.</param>
/// <param name="Text">The line.</param>
/// <param name="Record">What it says; null when it cannot be read.</param>
internal readonly record struct ReadLine(string Place, string Text, AuditRecord? Record);

/// <summary>Reads the audit's files, oldest line first, with and without a running server.</summary>
internal static class AuditReader
{
    // A file that is found in none of so many lists was deleted meanwhile.
    private const int MaxLists = 10;

    /// <summary>Reads all lines that were written before the call, and some that come after it.</summary>
    /// <param name="directory">Directory of the files.</param>
    /// <returns>Nothing when there is no file.</returns>
    /// <exception cref="IOException">The files could not be read.</exception>
    /// <exception cref="UnauthorizedAccessException">This user may not read them.</exception>
    public static IEnumerable<ReadLine> Read(string directory)
    {
        // The newest is opened first. If the server begins a new file meanwhile, it is among the full files too, and is read once.
        using var newest = TryOpen(AuditFile.NewestIn(directory));
        foreach (var line in FullBefore(directory, newest).SelectMany(ReadFull).Concat(ReadLines(AuditFile.NewestIn(directory), newest)))
        {
            yield return line;
        }
    }

    // A list that is made while a file gets another name may miss that file: then it is made again.
    private static IReadOnlyList<string> FullBefore(string directory, FileStream? newest)
    {
        for (var tries = 1; ; tries++)
        {
            var full = AuditFile.FullIn(directory).ToList();
            if (newest is null)
            {
                return full;
            }

            var own = full.FindIndex(path => FileStatus.IsSame(path, newest.SafeFileHandle));
            if (own >= 0 || tries == MaxLists || FileStatus.IsSame(AuditFile.NewestIn(directory), newest.SafeFileHandle))
            {
                return own >= 0 ? full[..own] : full;
            }
        }
    }

    private static IEnumerable<ReadLine> ReadFull(string path)
    {
        using var file = TryOpen(path);
        foreach (var line in ReadLines(path, file))
        {
            yield return line;
        }
    }

    private static IEnumerable<ReadLine> ReadLines(string path, FileStream? file)
    {
        if (file is null)
        {
            yield break;
        }

        using var reader = new StreamReader(file, Encoding.UTF8, leaveOpen: true);
        for (var number = 1; reader.ReadLine() is { } text; number++)
        {
            if (text.Length > 0)
            {
                yield return new ReadLine($"{Path.GetFileName(path)}:{number}", text, Parse(text));
            }
        }
    }

    // Null when there is no such file: the server deletes the oldest.
    private static FileStream? TryOpen(string path)
    {
        try
        {
            return new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
    }

    private static AuditRecord? Parse(string text)
    {
        try
        {
            return JsonSerializer.Deserialize(text, AuditJson.Default.AuditRecord);
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
