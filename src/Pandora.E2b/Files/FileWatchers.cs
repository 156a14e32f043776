using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using Pandora.E2b.Connect;
using Pandora.E2b.Data;
using Pandora.Engine;
using Pandora.Engine.Guests.Files;
using Pandora.Engine.Sandboxes;

namespace Pandora.E2b.Files;

/// <summary>The watches of directories: as a stream, and as watchers that a client asks from time to time.</summary>
internal sealed class FileWatchers(TimeProvider time)
{
    // A watcher keeps at most so many changes for a client that does not ask.
    private const int MostKept = 4096, MostKeptChars = 1024 * 1024;

    // By sandbox and id. A watcher ends with its sandbox.
    private readonly ConcurrentDictionary<(string Sandbox, string Id), Watcher> _watchers = new();

    /// <summary>Streams the changes below a directory.</summary>
    public async Task StreamAsync(GuestRequest request)
    {
        var asked = await request.Call.ReadAsync(E2bJson.Default.WatchRequest);
        await using var files = await OpenAsync(request, asked);
        await request.Call.BeginAsync();
        await request.Call.SendAsync(new WatchMessage(Start: new Empty()), E2bJson.Default.WatchMessage);
        using var left = CancellationTokenSource.CreateLinkedTokenSource(request.Aborted);
        Task<FilePiece?>? reading = null;
        try
        {
            while (true)
            {
                reading = files.ReadAsync(left.Token).AsTask();
                while (!await request.Call.HasComeAsync(reading, time))
                {
                    await request.Call.SendAsync(new WatchMessage(Keepalive: new Empty()), E2bJson.Default.WatchMessage);
                }

                if (await reading is not { Change: { } change } || change.Kind == FileChangeKind.Gone)
                {
                    break;
                }

                foreach (var happened in EventsOf(change))
                {
                    var shown = await DescribeAsync(request, asked, files.Directory, happened);
                    await request.Call.SendAsync(new WatchMessage(Filesystem: shown), E2bJson.Default.WatchMessage);
                }
            }
        }
        finally
        {
            await left.CancelAsync();
            await ((Task?)reading ?? Task.CompletedTask).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        await request.Call.EndAsync();
    }

    /// <summary>Makes a watcher.</summary>
    [SuppressMessage("Reliability", "CA2000", Justification = "CollectAsync disposes of the directory.")]
    public async Task CreateAsync(GuestRequest request)
    {
        var asked = await request.Call.ReadAsync(E2bJson.Default.WatchRequest);
        var watcher = new Watcher(await OpenAsync(request, asked), asked);
        var id = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(8));
        var key = (request.Sandbox.Id, id);
        _watchers[key] = watcher;
        _ = CollectAsync(key, watcher, request.Sandbox.Ending);
        await request.Call.AnswerAsync(new WatcherAnswer(id), E2bJson.Default.WatcherAnswer);
    }

    /// <summary>Answers with what a watcher has seen since it was asked last.</summary>
    public async Task ReadAsync(GuestRequest request)
    {
        var asked = await request.Call.ReadAsync(E2bJson.Default.WatcherRequest);
        var watcher = Find(request, asked);
        List<FilesystemEvent> events = [];
        foreach (var happened in watcher.Take())
        {
            events.Add(await DescribeAsync(request, watcher.Asked, watcher.Files.Directory, happened));
        }

        await request.Call.AnswerAsync(new WatcherEvents([.. events]), E2bJson.Default.WatcherEvents);
    }

    /// <summary>Ends a watcher.</summary>
    public async Task RemoveAsync(GuestRequest request)
    {
        var asked = await request.Call.ReadAsync(E2bJson.Default.WatcherRequest);
        var watcher = Find(request, asked);
        _watchers.TryRemove((request.Sandbox.Id, asked.WatcherId!), out _);
        await watcher.EndAsync();
        await request.Call.AnswerAsync(new Empty(), E2bJson.Default.Empty);
    }

    private Watcher Find(GuestRequest request, WatcherRequest asked) =>
        _watchers.TryGetValue((request.Sandbox.Id, asked.WatcherId ?? ""), out var watcher)
            ? watcher
            : throw new ConnectException(ConnectCode.NotFound, $"watcher with id {asked.WatcherId} not found");

    private async Task CollectAsync((string, string) key, Watcher watcher, CancellationToken ending)
    {
        try
        {
            await watcher.CollectAsync(ending);
        }
        finally
        {
            _watchers.TryRemove(key, out _);
            await watcher.Files.DisposeAsync();
        }
    }

    private static async Task<WatchedDirectory> OpenAsync(GuestRequest request, WatchRequest asked)
    {
        var path = (await request.UserAsync()).Resolve(asked.Path ?? "");
        try
        {
            var spec = new FileSpec(FileAction.Watch, FileEntries.Bytes(path)) { IsRecursive = asked.Recursive };
            return new WatchedDirectory(path, await request.Sandbox.OpenFilesAsync(spec, request.Aborted));
        }
        catch (PandoraException e) when (e.Error == PandoraError.FileNotFound)
        {
            throw new ConnectException(ConnectCode.NotFound, $"path {path} not found");
        }
        catch (PandoraException e) when (e.Error == PandoraError.FileState)
        {
            throw new ConnectException(ConnectCode.InvalidArgument, $"path {path} not a directory");
        }
    }

    // Files are written beside their place and moved there: a client that waits for a write is to see one.
    private static IEnumerable<FilesystemEvent> EventsOf(GuestFileChange change)
    {
        var (name, target) = (FileEntries.Text(change.Path), FileEntries.Text(change.Target));
        return change.Kind switch
        {
            // Whether there was a file before is not known.
            FileChangeKind.Moved when IsTemporary(name) => [new(target, "EVENT_TYPE_CREATE"), new(target, "EVENT_TYPE_WRITE")],
            _ when IsTemporary(name) => [],
            FileChangeKind.Created when change.IsDirectory => [new(name, "EVENT_TYPE_CREATE")],
            FileChangeKind.Created => [new(name, "EVENT_TYPE_CREATE"), new(name, "EVENT_TYPE_WRITE")],
            FileChangeKind.Modified => [new(name, "EVENT_TYPE_WRITE")],
            FileChangeKind.Attributes => [new(name, "EVENT_TYPE_CHMOD")],
            FileChangeKind.Deleted => [new(name, "EVENT_TYPE_REMOVE")],
            FileChangeKind.Moved => [new(name, "EVENT_TYPE_RENAME"), new(target, "EVENT_TYPE_CREATE")],
            _ => [],
        };
    }

    // The agent's name for a file that takes the place of another.
    private static bool IsTemporary(string name) => name[(name.LastIndexOf('/') + 1)..].StartsWith(".pandora-", StringComparison.Ordinal);

    private static async Task<FilesystemEvent> DescribeAsync(
        GuestRequest request, WatchRequest asked, string directory, FilesystemEvent happened)
    {
        if (!asked.IncludeEntry || happened.Type is "EVENT_TYPE_REMOVE" or "EVENT_TYPE_RENAME")
        {
            return happened;
        }

        try
        {
            return happened with { Entry = await FileCalls.ShowAsync(request, $"{directory.TrimEnd('/')}/{happened.Name}") };
        }
        catch (PandoraException e) when (e.Error is not (PandoraError.SandboxNotFound or PandoraError.SandboxGone))
        {
            // It is gone meanwhile, or cannot be shown now: that it was changed is true all the same.
            return happened;
        }
    }

    /// <summary>A directory that is watched.</summary>
    private sealed record WatchedDirectory(string Directory, SandboxFiles Files) : IAsyncDisposable
    {
        public ValueTask<FilePiece?> ReadAsync(CancellationToken cancellationToken) => Files.ReadAsync(cancellationToken);

        public ValueTask DisposeAsync() => Files.DisposeAsync();
    }

    /// <summary>A watcher that keeps what it sees until it is asked.</summary>
    [SuppressMessage("Design", "CA1001", Justification = "_ended may be cancelled after the end; nothing to free")]
    private sealed class Watcher(WatchedDirectory files, WatchRequest asked)
    {
        private readonly ConcurrentQueue<FilesystemEvent> _seen = new();
        private readonly CancellationTokenSource _ended = new();
        private long _chars;

        public WatchedDirectory Files => files;

        public WatchRequest Asked => asked;

        public Task EndAsync() => _ended.CancelAsync();

        public List<FilesystemEvent> Take()
        {
            List<FilesystemEvent> taken = [];
            while (TryTake(out var happened))
            {
                taken.Add(happened);
            }

            return taken;
        }

        private bool TryTake([NotNullWhen(true)] out FilesystemEvent? happened)
        {
            var isTaken = _seen.TryDequeue(out happened);
            Interlocked.Add(ref _chars, -(happened?.Name.Length ?? 0));
            return isTaken;
        }

        public async Task CollectAsync(CancellationToken ending)
        {
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(ending, _ended.Token);
            try
            {
                while (await files.ReadAsync(stop.Token) is { Change: { Kind: not FileChangeKind.Gone } change })
                {
                    foreach (var happened in EventsOf(change))
                    {
                        _seen.Enqueue(happened);
                        Interlocked.Add(ref _chars, happened.Name.Length);
                    }

                    while ((_seen.Count > MostKept || Volatile.Read(ref _chars) > MostKeptChars) && TryTake(out _))
                    {
                        // The oldest are lost.
                    }
                }
            }
            catch (Exception e) when (e is PandoraException or OperationCanceledException)
            {
                // The watcher was removed, the sandbox has ended, or its guest does not answer.
            }
        }
    }
}
