using System.Formats.Tar;
using System.Runtime.InteropServices;
using Pandora.Agent.Files;
using Pandora.Agent.Protocol.Files;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Tests.Files;

/// <summary>Programs of the guest that change files while the agent works on them, or make trees against it.</summary>
public sealed partial class AgentHostileTests : AgentFileTest
{
    [Fact]
    public async Task A_tree_deeper_than_the_threads_stack_does_not_end_the_agent_that_watches_it()
    {
        MakeDeep("w", 4000);
        Assert.Equal([FileChange.Started, FileChange.Lost], await WatchAsync("w", count: 2));
        Assert.Single((await Talk.DoAsync(Request(FileOperation.Show, "w"))).Entries);
    }

    [Fact]
    public void The_path_of_a_deep_directory_needs_no_deep_stack()
    {
        var path = Array.Empty<byte>();
        var thread = new Thread(() => path = Chain(WatchedTree.MostDirectories).PathOf("x"u8), maxStackSize: 256 * 1024);
        thread.Start();
        thread.Join();
        Assert.Equal((2 * WatchedTree.MostDirectories) + 1, path.Length);
        Assert.Equal("d/d/d", Text(path[..5]));
        Assert.Equal("d/x", Text(path[^3..]));
        Assert.Equal("x", Text(Chain(0).PathOf("x"u8)));
    }

    [Fact]
    public void A_late_event_does_not_move_a_directory_into_itself()
    {
        var inner = Chain(2);
        Assert.False(WatchedTree.TryMove(inner.Parent!, inner, Bytes("d")));
        Assert.Equal("d/d", Text(inner.Path));
        Assert.True(WatchedTree.TryMove(inner, inner.Parent!.Parent!, Bytes("e")));
        Assert.Equal("e", Text(inner.Path));
    }

    [Fact]
    public void A_directory_that_was_removed_has_no_names()
    {
        Directory.CreateDirectory(PathOf("d"));
        using var directory = OpenFile.At(FileCalls.NoDirectory, Bytes(PathOf("d")), FileCalls.OnlyDirectory);
        Directory.Delete(PathOf("d"));
        Assert.Equal(0, NameList.Read(directory.Descriptor, NameList.MostNames, "d"u8).Count);
    }

    [Fact]
    public async Task What_was_moved_away_is_told_although_other_files_change_all_the_time()
    {
        Directory.CreateDirectory(PathOf("w"));
        File.WriteAllText(PathOf("w/a"), "");
        await using var stream = new WatchedStream(await Talk.OpenAsync(
            Request(FileOperation.Watch, "w") with { Options = FileOptions.Recursive }));
        Assert.Equal(FileChange.Started, (await stream.NextAsync()).Change);
        using var stop = new CancellationTokenSource();
        var storm = Task.Run(() =>
        {
            while (!stop.IsCancellationRequested)
            {
                File.SetUnixFileMode(PathOf("w"), (UnixFileMode)0x1ED);
                File.WriteAllText(PathOf("w/noise"), "");
                Thread.SpinWait(10_000);
            }
        });
        File.Move(PathOf("w/a"), PathOf("a"));
        var isTold = false;
        for (var i = 0; i < 5000 && !isTold; i++)
        {
            var next = await stream.NextAsync();
            isTold = next.Change == FileChange.Deleted && Text(next.Path) == "a";
        }

        await stop.CancelAsync();
        await storm;
        Assert.True(isTold);
    }

    [Fact]
    public async Task A_file_that_becomes_shorter_while_it_is_copied_is_never_taken_for_whole()
    {
        const int Size = 64 * 1024 * 1024;
        for (var round = 0; round < 20; round++)
        {
            File.WriteAllBytes(PathOf("a"), Random(Size));
            var copying = Talk.AskAsync(
                Request(FileOperation.Copy, "a") with { Options = FileOptions.Replace, Target = Bytes(PathOf("copy")) });
            await Task.Delay(TimeSpan.FromMilliseconds(round), TimeProvider.System);
            using (var file = File.OpenWrite(PathOf("a")))
            {
                file.SetLength(1000);
            }

            if ((await copying).Failure is { } failure)
            {
                Assert.Contains("became shorter", failure.Reason, StringComparison.Ordinal);
                return;
            }

            // Copied before, or after.
            var copied = new FileInfo(PathOf("copy")).Length;
            Assert.True(copied is Size or 1000, $"{copied} bytes");
            Assert.NotEqual(0, File.ReadAllBytes(PathOf("copy"))[^1000..].Max());
        }

        Assert.Skip("each file was copied before it became shorter");
    }

    [Fact]
    public async Task A_directory_whose_owner_cannot_be_set_is_not_left()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "only root acts for others");
        Run("chmod", "755", Root);
        Directory.CreateDirectory(PathOf("d"), (UnixFileMode)0x1FF);
        Run("chmod", "777", PathOf("d"));
        var request = Request(FileOperation.MakeDirectory, "d/new") with { User = "65534", Owner = "0" };
        await Talk.FailAsync(request, FileFailureKind.Denied);
        Assert.False(Directory.Exists(PathOf("d/new")));
        await Talk.FailAsync(request with { Operation = FileOperation.Unpack }, FileFailureKind.Denied, new byte[1024]);
        Assert.False(Directory.Exists(PathOf("d/new")));
    }

    [Fact]
    public async Task Of_a_directory_that_an_archive_has_twice_the_last_entry_counts_and_order_does_not_matter()
    {
        var archive = new MemoryStream();
        using (var writer = new TarWriter(archive, TarEntryFormat.Pax, leaveOpen: true))
        {
            foreach (var (name, mode) in new[] { ("d/e", 0x1C0), ("d", 0x1C0), ("d", 0x1ED), ("d/e", 0x168) })
            {
                writer.WriteEntry(new PaxTarEntry(TarEntryType.Directory, name) { Mode = (UnixFileMode)mode });
            }
        }

        await Talk.DoAsync(Request(FileOperation.Unpack, "out"), archive.ToArray());
        Assert.Equal((UnixFileMode)0x1ED, File.GetUnixFileMode(PathOf("out/d")));
        Assert.Equal((UnixFileMode)0x168, File.GetUnixFileMode(PathOf("out/d/e")));
    }

    [Fact]
    public async Task Another_file_that_is_put_in_the_place_of_one_that_was_made_keeps_its_mode_and_owner()
    {
        const int Count = 3000;
        File.WriteAllText(PathOf("victim"), "");
        Run("chmod", "600", PathOf("victim"));
        Directory.CreateDirectory(PathOf("out"));
        var archive = new MemoryStream();
        using (var writer = new TarWriter(archive, TarEntryFormat.Pax, leaveOpen: true))
        {
            for (var i = 0; i < Count; i++)
            {
                writer.WriteEntry(new PaxTarEntry(TarEntryType.Fifo, $"{i}") { Mode = (UnixFileMode)0x1FF });
                link(PathOf("victim"), PathOf($"link{i}"));
            }
        }

        var swapping = new Thread(() =>
        {
            for (var i = 0; i < Count; i++)
            {
                while (!File.Exists(PathOf($"out/{i}")) && !File.Exists(PathOf("stop")))
                {
                }

                rename(PathOf($"link{i}"), PathOf($"out/{i}"));
            }
        });
        swapping.Start();
        for (var i = 0; i < 50 && File.GetUnixFileMode(PathOf("victim")) == (UnixFileMode)0x180; i++)
        {
            await Talk.AskAsync(Request(FileOperation.Unpack, "out"), archive.ToArray());
        }

        File.WriteAllText(PathOf("stop"), "");
        swapping.Join();
        Assert.Equal((UnixFileMode)0x180, File.GetUnixFileMode(PathOf("victim")));
    }

    private static WatchedDirectory Chain(int depth)
    {
        var directory = new WatchedDirectory(null, []);
        for (var i = 0; i < depth; i++)
        {
            directory = new WatchedDirectory(directory, Bytes("d"));
        }

        return directory;
    }

    private async Task<List<FileChange>> WatchAsync(string path, int count)
    {
        await using var stream = new WatchedStream(await Talk.OpenAsync(
            Request(FileOperation.Watch, path) with { Options = FileOptions.Recursive }));
        var changes = new List<FileChange>();
        while (changes.Count < count)
        {
            changes.Add((await stream.NextAsync()).Change);
        }

        return changes;
    }

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int link(string path, string newPath);

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int rename(string path, string newPath);

    /// <summary>The events of a watch.</summary>
    private sealed class WatchedStream(Pandora.Engine.Guests.Agent.AgentStream stream) : IAsyncDisposable
    {
        private readonly IAsyncEnumerator<(FileMessage Kind, byte[] Body)> _messages =
            FileTalk.MessagesAsync(stream).GetAsyncEnumerator();

        public async Task<FileEvent> NextAsync()
        {
            Assert.True(await _messages.MoveNextAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(60)));
            Assert.Equal(FileMessage.Event, _messages.Current.Kind);
            return FileEvent.Decode(_messages.Current.Body);
        }

        public async ValueTask DisposeAsync()
        {
            stream.Close(mustForget: false);
            await _messages.DisposeAsync();
        }
    }
}
