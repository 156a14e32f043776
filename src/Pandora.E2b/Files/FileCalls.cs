using Pandora.E2b.Connect;
using Pandora.E2b.Data;
using Pandora.Engine;
using Pandora.Engine.Guests.Files;

namespace Pandora.E2b.Files;

/// <summary>
/// The calls of <c>filesystem.Filesystem</c>. As in E2B, the agent acts as root: the user of a call says where relative paths begin, and
/// who owns what is made.
/// </summary>
internal sealed class FileCalls(FileWatchers watchers)
{
    private const int MaxDepth = 64, MostListed = 10_000, MaxLinks = 40;

    /// <summary>Finds a call by its name; null for an unknown one.</summary>
    public Func<GuestRequest, Task>? Find(string name) => name switch
    {
        "Stat" => StatAsync,
        "ListDir" => ListAsync,
        "MakeDir" => MakeDirectoryAsync,
        "Move" => MoveAsync,
        "Remove" => RemoveAsync,
        "WatchDir" => watchers.StreamAsync,
        "CreateWatcher" => watchers.CreateAsync,
        "GetWatcherEvents" => watchers.ReadAsync,
        "RemoveWatcher" => watchers.RemoveAsync,
        _ => null,
    };

    /// <summary>Shows a file, and what it leads to when it is a link.</summary>
    /// <exception cref="PandoraException">There is none, or the guest does not answer.</exception>
    public static async Task<EntryInfo> ShowAsync(GuestRequest request, string path)
    {
        var file = await AskAsync(request, new FileSpec(FileAction.Show, FileEntries.Bytes(path)));
        return await DescribeAsync(request, file, path);
    }

    private static async Task StatAsync(GuestRequest request)
    {
        var asked = await request.Call.ReadAsync(E2bJson.Default.PathRequest);
        var path = (await request.UserAsync()).Resolve(asked.Path ?? "");
        await AnswerAsync(request, await ShowAsync(request, path));
    }

    private static async Task ListAsync(GuestRequest request)
    {
        var asked = await request.Call.ReadAsync(E2bJson.Default.PathRequest);
        if (asked.Depth is < 0 or > MaxDepth)
        {
            throw new ConnectException(ConnectCode.InvalidArgument, $"depth should be at least one, and at most {MaxDepth}");
        }

        var path = (await request.UserAsync()).Resolve(asked.Path ?? "").TrimEnd('/') is { Length: > 0 } trimmed ? trimmed : "/";
        // A link to a directory is listed as the directory, with the names that lead through the link.
        var directory = await AskAsync(request, new FileSpec(FileAction.Show, FileEntries.Bytes(path)) { FollowsLinks = true });
        if (directory.Kind != GuestFileKind.Directory)
        {
            throw new ConnectException(ConnectCode.InvalidArgument, $"path is not a directory: {path}");
        }

        var spec = new FileSpec(FileAction.List, directory.Path)
        {
            Depth = Math.Max(1, asked.Depth),
            Limit = MostListed,
            WithAttributes = true,
        };
        var (files, outcome) = await request.Sandbox.AskFilesAsync(spec, request.Aborted);
        if (outcome.HasMore)
        {
            throw new ConnectException(
                ConnectCode.ResourceExhausted, $"{path} has more than {files.Count} entries, which is the most that is listed at once");
        }

        var root = FileEntries.Text(directory.Path).TrimEnd('/');
        var entries = new List<EntryInfo>(files.Count);
        foreach (var file in files)
        {
            var below = FileEntries.Text(file.Path);
            var shown = below.StartsWith(root + "/", StringComparison.Ordinal) ? path.TrimEnd('/') + below[root.Length..] : below;
            entries.Add(await DescribeAsync(request, file, shown));
        }

        await request.Call.AnswerAsync(new EntriesAnswer([.. entries]), E2bJson.Default.EntriesAnswer);
    }

    private static async Task MakeDirectoryAsync(GuestRequest request)
    {
        var asked = await request.Call.ReadAsync(E2bJson.Default.PathRequest);
        var user = await request.UserAsync();
        var path = user.Resolve(asked.Path ?? "");
        var spec = new FileSpec(FileAction.MakeDirectory, FileEntries.Bytes(path)) { MakesParents = true, Owner = user.Name };
        try
        {
            var (_, outcome) = await request.Sandbox.AskFilesAsync(spec, request.Aborted);
            if (!outcome.IsCreated)
            {
                throw new ConnectException(ConnectCode.AlreadyExists, $"directory already exists: {path}");
            }
        }
        catch (PandoraException e) when (e.Error is PandoraError.FileExists or PandoraError.FileState)
        {
            throw new ConnectException(ConnectCode.InvalidArgument, $"path already exists but it is not a directory: {path}");
        }

        await AnswerAsync(request, await ShowAsync(request, path));
    }

    private static async Task MoveAsync(GuestRequest request)
    {
        var asked = await request.Call.ReadAsync(E2bJson.Default.MoveRequest);
        var user = await request.UserAsync();
        var (source, target) = (user.Resolve(asked.Source ?? ""), user.Resolve(asked.Destination ?? ""));
        await request.Sandbox.AskFilesAsync(
            new FileSpec(FileAction.Move, FileEntries.Bytes(source))
            {
                Target = FileEntries.Bytes(target),
                MakesParents = true,
                Replaces = true,
                Owner = user.Name,
            },
            request.Aborted);
        await AnswerAsync(request, await ShowAsync(request, target));
    }

    private static async Task RemoveAsync(GuestRequest request)
    {
        var asked = await request.Call.ReadAsync(E2bJson.Default.PathRequest);
        var path = (await request.UserAsync()).Resolve(asked.Path ?? "");
        try
        {
            await request.Sandbox.AskFilesAsync(
                new FileSpec(FileAction.Delete, FileEntries.Bytes(path)) { IsRecursive = true }, request.Aborted);
        }
        catch (PandoraException e) when (e.Error == PandoraError.FileNotFound)
        {
            // What is wanted is so already.
        }

        await request.Call.AnswerAsync(new Empty(), E2bJson.Default.Empty);
    }

    private static async Task<GuestFile> AskAsync(GuestRequest request, FileSpec spec) =>
        (await request.Sandbox.AskFilesAsync(spec with { WithAttributes = true }, request.Aborted)).Files[0];

    // A link has the type and the rights of the file to which it leads in the end.
    private static async Task<EntryInfo> DescribeAsync(GuestRequest request, GuestFile file, string path)
    {
        if (file.Kind != GuestFileKind.Link)
        {
            return FileEntries.Of(file, path);
        }

        var target = file;
        try
        {
            for (var links = 0; target.Kind == GuestFileKind.Link && links < MaxLinks; links++)
            {
                target = await AskAsync(request, new FileSpec(FileAction.Show, FileEntries.Bytes(TargetOf(target))));
            }
        }
        catch (Exception e) when (e is ArgumentException
            or PandoraException { Error: PandoraError.FileNotFound or PandoraError.FileFailed or PandoraError.FileState })
        {
            // It leads nowhere; the guest says what a link contains.
            return FileEntries.Of(file, path);
        }

        return FileEntries.Of(file, path, target.Kind == GuestFileKind.Link ? null : target);
    }

    // The kernel's way: a target that is relative begins in the directory of the link.
    private static string TargetOf(GuestFile link)
    {
        var target = FileEntries.Text(link.LinkTarget);
        var directory = FileEntries.Text(link.Path);
        return Path.GetFullPath(target, directory[..(directory.LastIndexOf('/') + 1)]);
    }

    private static Task AnswerAsync(GuestRequest request, EntryInfo entry) =>
        request.Call.AnswerAsync(new EntryAnswer(entry), E2bJson.Default.EntryAnswer);
}
