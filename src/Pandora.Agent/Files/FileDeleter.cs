using Pandora.Agent.Protocol.Files;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Agent.Files;

/// <summary>Deletes a file, or a directory with what is in it.</summary>
internal static class FileDeleter
{
    // A directory may have more names than there is memory for.
    private const int NamesAtOnce = 10_000;

    /// <summary>Does a request.</summary>
    public static FileResult Run(FileWork work)
    {
        using var place = FilePlace.Of(work.Path, "deleted");
        return new FileResult(Entries: Delete(work, place, work.Request.Options.HasFlag(FileOptions.Recursive)));
    }

    /// <summary>Deletes what is at a place. A link is deleted itself.</summary>
    /// <returns>How many files and directories were deleted.</returns>
    /// <exception cref="FileFailedException">It could not be deleted, or not in whole.</exception>
    public static long Delete(FileWork work, FilePlace place, bool isRecursive)
    {
        if (!place.TryStatus(out var status))
        {
            throw FileFailedException.Of(FileCalls.NoEntry, place.Path);
        }

        var isDirectory = status.Kind == FileKind.Directory;
        var deleted = 0L;
        if (isDirectory && isRecursive)
        {
            deleted = Empty(work, place);
        }

        FileFailedException.Check(FileCalls.Remove(place.Directory, place.Name, isDirectory), place.Path);
        return deleted + 1;
    }

    private static long Empty(FileWork work, FilePlace place)
    {
        var directory = OpenFile.At(place.Directory, place.Name, FileCalls.OnlyDirectory | FileCalls.NoLink, place.Path);
        using var walk = new TreeWalk(directory, place.Path, NamesAtOnce);
        var deleted = 0L;
        try
        {
            while (walk.Depth > 0)
            {
                work.Pipe.ThrowIfCancelled();
                if (walk.TryNext(out var name))
                {
                    deleted += DeleteOrEnter(walk, name) ? 1 : 0;
                }
                else if (walk.HasMore)
                {
                    walk.ReadAgain();
                }
                else
                {
                    deleted += LeaveAndDelete(walk) ? 1 : 0;
                }
            }
        }
        catch (FileFailedException e) when (deleted > 0)
        {
            throw new FileFailedException(e.Kind, $"{e.Message}; {deleted} files were deleted before");
        }

        return deleted;
    }

    // Whether a file was deleted.
    private static bool DeleteOrEnter(TreeWalk walk, ReadOnlySpan<byte> name)
    {
        // Twice, because a program may put a file into a directory's place, or the other way round.
        for (var attempt = 0; ; attempt++)
        {
            var result = FileCalls.Remove(walk.Directory, name, isDirectory: false);
            if (result is >= 0 or FileCalls.NoEntry)
            {
                return result >= 0;
            }

            var isDirectory = FileCalls.Status(walk.Directory, name, FileCalls.NoFollow, out var status) >= 0
                && status.Kind == FileKind.Directory;
            var entered = isDirectory ? walk.TryEnter(name) : result;
            if (isDirectory && entered is FileCalls.Denied)
            {
                // An empty one that may not be read can be deleted all the same.
                entered = FileCalls.Remove(walk.Directory, name, isDirectory: true);
                if (entered >= 0)
                {
                    return true;
                }

                entered = entered == FileCalls.NotEmpty ? FileCalls.Denied : entered;
            }

            if (entered >= 0)
            {
                return false;
            }

            if (attempt == 1 || entered is not (FileCalls.NoEntry or FileCalls.NotDirectory or FileCalls.TooManyLinks))
            {
                throw FileFailedException.Of(entered, walk.Show(name));
            }
        }
    }

    private static bool LeaveAndDelete(TreeWalk walk)
    {
        var (name, path, isFirst) = (walk.DirectoryName, walk.Show([]), walk.Depth == 1);
        walk.Leave();
        if (isFirst)
        {
            return false;
        }

        var result = FileCalls.Remove(walk.Directory, name, isDirectory: true);
        if (result is FileCalls.NotDirectory or FileCalls.NoEntry)
        {
            // It was moved away while it was emptied. Another file is in its place, or none.
            return false;
        }

        return FileFailedException.Check(result, path) >= 0;
    }
}
