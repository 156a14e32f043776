using Pandora.Agent.Protocol.Files;

namespace Pandora.Agent.Files;

/// <summary>Lists a directory: each directory before what is in it, names in the order of their bytes.</summary>
internal static class FileLister
{
    private const int MostNames = 200_000;

    /// <summary>Does a request.</summary>
    public static FileResult Run(FileWork work)
    {
        var (request, path) = (work.Request, FilePath.Clean(work.Path));
        var directory = OpenFile.At(FileCalls.NoDirectory, work.Path, FileCalls.OnlyDirectory | FileCalls.NonBlocking);
        using var walk = new TreeWalk(directory, path, MostNames);
        Continue(walk, request);
        var count = 0L;
        while (walk.Depth > 0)
        {
            work.Pipe.ThrowIfCancelled();
            CheckSize(walk);
            if (!walk.TryNext(out var name))
            {
                walk.Leave();
                continue;
            }

            // What vanishes meanwhile is left out.
            var result = FileCalls.Status(walk.Directory, name, FileCalls.NoFollow, out var status);
            if (result < 0)
            {
                if (result == FileCalls.Denied && walk.Depth == 1)
                {
                    throw FileFailedException.Of(result, walk.Show(name));
                }

                continue;
            }

            if (count == request.Limit)
            {
                return new FileResult(Entries: count, HasMore: true);
            }

            Send(work, walk, name, status);
            count++;
            if (status.Kind == FileKind.Directory && walk.Depth < request.Depth)
            {
                Enter(walk, name);
            }
        }

        return new FileResult(Entries: count);
    }

    // Goes to where the last list ended.
    private static void Continue(TreeWalk walk, FileRequest request)
    {
        var rest = (ReadOnlySpan<byte>)request.After;
        while (!rest.IsEmpty)
        {
            var slash = rest.IndexOf((byte)'/');
            var name = slash < 0 ? rest : rest[..slash];
            rest = slash < 0 ? [] : rest[(slash + 1)..];
            walk.SkipTo(name);
            if (!walk.TryTake(name))
            {
                // It has vanished, with all below.
                return;
            }

            if (walk.Depth >= request.Depth ||
                FileCalls.Status(walk.Directory, name, FileCalls.NoFollow, out var status) < 0 || status.Kind != FileKind.Directory)
            {
                return;
            }

            if (!Enter(walk, name))
            {
                return;
            }
        }
    }

    // One that may not be read, or has vanished, is listed without what is in it.
    private static bool Enter(TreeWalk walk, ReadOnlySpan<byte> name)
    {
        var entered = walk.TryEnter(name);
        if (entered is 0 or FileCalls.Denied or FileCalls.NotPermitted or FileCalls.NoEntry or FileCalls.NotDirectory
            or FileCalls.TooManyLinks)
        {
            return entered == 0;
        }

        throw FileFailedException.Of(entered, walk.Show(name));
    }

    private static void CheckSize(TreeWalk walk)
    {
        if (walk.HasMore)
        {
            throw new FileFailedException(
                FileFailureKind.Guest, $"{FilePath.Show(walk.Show([]))} has more than {MostNames} names, which cannot be listed");
        }
    }

    private static void Send(FileWork work, TreeWalk walk, ReadOnlySpan<byte> name, in FileStatus status)
    {
        byte[]? target = null;
        if (status.Kind == FileKind.Link)
        {
            Span<byte> found = stackalloc byte[FileRequest.MaxPath + 1];
            var length = FileCalls.ReadLink(walk.Directory, name, found);
            target = length < 0 ? null : found[..length].ToArray();
        }

        work.SendEntry(walk.Show(name), status, target, work.HasAttributes ? FileAttributes.Of(walk.Directory, name) : null);
    }
}
