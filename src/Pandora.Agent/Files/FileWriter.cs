using System.Globalization;
using Pandora.Agent.Protocol.Files;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Agent.Files;

/// <summary>Writes a regular file, which takes its place when all bytes have come.</summary>
internal static class FileWriter
{
    private const string MustExist = "*", MustNotExist = "";
    private const uint DefaultMode = 0x1A4; // 0644

    /// <summary>Does a request.</summary>
    public static FileResult Run(FileWork work)
    {
        var request = work.Request;
        var owner = FileOwner.Parse(request.Owner);
        using var directories = new NewDirectories();
        if (request.Options.HasFlag(FileOptions.MakeParents))
        {
            directories.Make(work.Path, owner);
        }

        if (work.Path[^1] == '/')
        {
            FileFailedException.ThrowKind(work.Path, "names a directory, which cannot be written");
        }

        using var place = FilePlace.Follow(work.Path, "written");
        CheckCondition(place, request.Condition);
        using var file = new NewFile(place, request.Options.HasFlag(FileOptions.Sparse));
        Func<Memory<byte>, int> read = bytes => work.Pipe.Read(bytes.Span);
        int count;
        while ((count = work.Fill(read)) > 0)
        {
            file.Write(work.Chunk[..count]);
        }

        FileAttributes.Set(file.Descriptor, request.Attributes, work.Path);
        var isCreated = Place(place, file, request, owner);
        directories.Keep();
        work.SendEntry(file.Descriptor, work.Path);
        return new FileResult(isCreated, file.Size, 1);
    }

    // Whether the file is new.
    private static bool Place(FilePlace place, NewFile file, FileRequest request, FileOwner? owner)
    {
        var isThere = place.TryStatus(out var before);
        var mode = request.Mode != FileRequest.NoMode ? (uint)request.Mode : isThere ? before.Mode : DefaultMode;
        if (owner is null && isThere)
        {
            // The owner stays as far as the user may give files away. Root may.
            if (FileCalls.ChangeOwner(file.Descriptor, before.User, before.Group) < 0 &&
                FileCalls.ChangeOwner(file.Descriptor, FileOwner.Unchanged, before.Group) < 0 && request.Mode == FileRequest.NoMode)
            {
                // The bits that give the owner's rights to others do not pass to another owner.
                mode &= 0x1FF;
            }
        }

        file.Finish(owner, mode, request.ModifiedAt);
        CheckCondition(place, request.Condition);
        if (request.Condition == MustNotExist || !isThere)
        {
            if (file.TryPlaceNew())
            {
                return true;
            }

            if (request.Condition == MustNotExist)
            {
                throw Unmet(place, "it exists");
            }
        }

        file.Replace();
        return false;
    }

    private static void CheckCondition(FilePlace place, string? condition)
    {
        var isThere = place.TryStatus(out var status);
        if (isThere && status.Kind != FileKind.File && condition != MustNotExist)
        {
            FileFailedException.ThrowKind(place.Path, $"is {OpenFile.NameOf(status.Kind)}");
        }

        switch (condition)
        {
            case null:
                return;
            case MustNotExist when isThere:
                throw Unmet(place, "it exists");
            case MustNotExist:
                return;
            case not null when !isThere:
                throw Unmet(place, "it does not exist");
            case MustExist:
                return;
            case not null when condition != TagOf(status):
                throw Unmet(place, "it was changed");
        }
    }

    // FileEntry.Tag without an entry.
    private static string TagOf(in FileStatus status) => string.Create(
        CultureInfo.InvariantCulture, $"{status.Inode:x}-{status.Size:x}-{status.ModifiedAt:x}-{status.ChangedAt:x}");

    private static FileFailedException Unmet(FilePlace place, string why) =>
        new(FileFailureKind.Condition, $"{FilePath.Show(place.Path)}: {why}");
}
