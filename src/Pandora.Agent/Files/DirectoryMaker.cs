using Pandora.Agent.Protocol.Files;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Agent.Files;

/// <summary>Makes a directory.</summary>
internal static class DirectoryMaker
{
    private const uint DefaultMode = 0x1ED; // 0755

    /// <summary>Does a request.</summary>
    public static FileResult Run(FileWork work)
    {
        var request = work.Request;
        var mayExist = request.Options.HasFlag(FileOptions.MakeParents);
        var owner = FileOwner.Parse(request.Owner);
        using var directories = new NewDirectories();
        if (mayExist && TryOpen(work.Path) is { } found)
        {
            using (found)
            {
                work.SendEntry(found.Descriptor, work.Path);
                return new FileResult(Entries: 1);
            }
        }

        if (mayExist)
        {
            directories.Make(work.Path, owner);
        }

        using var place = FilePlace.Of(work.Path, "made");
        using var made = NewDirectories.MakeAt(place, owner, request.Mode == FileRequest.NoMode ? DefaultMode : (uint)request.Mode);
        directories.Keep();
        work.SendEntry(made.Descriptor, work.Path);
        return new FileResult(IsCreated: true, Entries: 1);
    }

    private static OpenFile? TryOpen(byte[] path)
    {
        var descriptor = FileCalls.Open(FileCalls.NoDirectory, path, FileCalls.PathOnly | FileCalls.OnlyDirectory);
        return descriptor < 0 ? null : new OpenFile(descriptor);
    }
}
