using Pandora.Agent.Protocol.Files;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Agent.Files;

/// <summary>Moves a file or a directory; to another filesystem by a copy.</summary>
internal static class FileMover
{
    /// <summary>Does a request.</summary>
    public static FileResult Run(FileWork work)
    {
        var target = FilePath.MakeAbsolute(work.Request.Target, work.Account);
        using var directories = new NewDirectories();
        if (work.Request.Options.HasFlag(FileOptions.MakeParents))
        {
            directories.Make(target, owner: null);
        }

        using var from = FilePlace.Of(work.Path, "moved");
        using var to = FilePlace.Of(target, "replaced");
        var result = Move(work, from, to);
        directories.Keep();
        using var moved = OpenFile.At(to.Directory, to.Name, FileCalls.PathOnly | FileCalls.NoLink, target);
        work.SendEntry(moved.Descriptor, target);
        return result;
    }

    /// <summary>Makes sure that a target may be replaced, when it is there.</summary>
    /// <returns>Whether it is there.</returns>
    /// <exception cref="FileFailedException">It must not be replaced.</exception>
    public static bool CheckTarget(FilePlace to, bool isDirectory, bool mayReplace)
    {
        if (!to.TryStatus(out var status))
        {
            return false;
        }

        if (status.Kind == FileKind.Directory || isDirectory || !mayReplace)
        {
            throw new FileFailedException(
                FileFailureKind.Exists, $"{FilePath.Show(to.Path)} exists, and is {OpenFile.NameOf(status.Kind)}");
        }

        return true;
    }

    private static FileResult Move(FileWork work, FilePlace from, FilePlace to)
    {
        if (!from.TryStatus(out var status))
        {
            throw FileFailedException.Of(FileCalls.NoEntry, from.Path);
        }

        var mayReplace = work.Request.Options.HasFlag(FileOptions.Replace);
        var isThere = CheckTarget(to, status.Kind == FileKind.Directory, mayReplace);
        if (status.Kind == FileKind.Directory)
        {
            FileCopier.CheckNotInside(status, to, "moved");
        }

        var moved = FileCalls.Rename(from.Directory, from.Name, to.Directory, to.Name, mayReplace ? 0 : FileCalls.NoReplace);
        if (moved == FileCalls.Invalid && !mayReplace)
        {
            // The filesystem cannot refuse to replace by itself.
            moved = FileCalls.Rename(from.Directory, from.Name, to.Directory, to.Name, 0);
        }

        if (moved != FileCalls.OtherDevice)
        {
            FileFailedException.Check(moved, to.Path);
            return new FileResult(!isThere, 0, 1);
        }

        var result = FileCopier.Copy(work, from, to, status, mayReplace);
        try
        {
            FileDeleter.Delete(work, from, isRecursive: true);
        }
        catch (FileFailedException e)
        {
            throw new FileFailedException(e.Kind, $"it was copied, and could not be deleted at its old place: {e.Message}");
        }

        return result;
    }
}
