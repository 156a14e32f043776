using Pandora.Agent.Protocol.Files;
using Pandora.Engine.Guests.Agent;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Tests.Files;

/// <summary>Watches by the agent's code.</summary>
public sealed class AgentWatchTests : AgentFileTest
{
    private AgentStream? _stream;
    private IAsyncEnumerator<(FileMessage Kind, byte[] Body)>? _messages;

    [Fact]
    public async Task What_happens_in_a_directory_is_told()
    {
        await WatchAsync("");
        File.WriteAllText(PathOf("a"), "1");
        await ExpectAsync("Created a");
        await ExpectAsync("Modified a");
        File.SetUnixFileMode(PathOf("a"), UnixFileMode.UserRead);
        await ExpectAsync("Attributes a");
        File.Move(PathOf("a"), PathOf("b"));
        await ExpectAsync("Moved a b");
        File.Delete(PathOf("b"));
        await ExpectAsync("Deleted b");
    }

    [Fact]
    public async Task Directories_below_are_watched_on_request_also_new_and_moved_ones()
    {
        Directory.CreateDirectory(PathOf("w/d/e"));
        Directory.CreateDirectory(PathOf("outside/x"));
        File.WriteAllText(PathOf("outside/x/y"), "");
        await WatchAsync("w", FileOptions.Recursive);
        File.WriteAllText(PathOf("w/d/e/f"), "");
        await ExpectAsync("Created d/e/f");
        Directory.CreateDirectory(PathOf("w/n"));
        await ExpectAsync("Created n");
        File.WriteAllText(PathOf("w/n/f"), "");
        await ExpectAsync("Created n/f");
        Directory.Move(PathOf("w/d"), PathOf("w/n/d"));
        await ExpectAsync("Moved d n/d");
        File.WriteAllText(PathOf("w/n/d/e/g"), "");
        await ExpectAsync("Created n/d/e/g");
        Directory.Move(PathOf("outside"), PathOf("w/in"));
        await ExpectAsync("Created in");
        await ExpectAsync("Created in/x");
        await ExpectAsync("Created in/x/y");
        Directory.Move(PathOf("w/n"), PathOf("away"));
        await ExpectAsync("Deleted n");
        File.WriteAllText(PathOf("away/quiet"), "");
        File.WriteAllText(PathOf("w/last"), "");
        await ExpectAsync("Created last");
    }

    [Fact]
    public async Task The_end_of_the_directory_ends_the_watch()
    {
        Directory.CreateDirectory(PathOf("w"));
        await WatchAsync("w", FileOptions.Recursive);
        Directory.Delete(PathOf("w"));
        await ExpectAsync("Gone");
        Assert.True(await _messages!.MoveNextAsync());
        Assert.Equal(FileMessage.Done, _messages.Current.Kind);
        Assert.False(await _messages.MoveNextAsync());
    }

    [Fact]
    public async Task What_is_no_directory_is_not_watched()
    {
        File.WriteAllText(PathOf("a"), "");
        await Talk.FailAsync(Request(FileOperation.Watch, "a"), FileFailureKind.WrongKind);
        await Talk.FailAsync(Request(FileOperation.Watch, "missing"), FileFailureKind.NotFound);
    }

    [Fact]
    public async Task Events_that_are_not_read_are_lost_and_the_watch_goes_on()
    {
        await WatchAsync("", FileOptions.Recursive);
        // More than the kernel keeps and the stream holds.
        var longName = new string('x', 200);
        for (var i = 0; i < 15_000; i++)
        {
            File.WriteAllText(PathOf(longName + (i % 7)), "");
            File.Delete(PathOf(longName + (i % 7)));
        }

        Directory.CreateDirectory(PathOf("late"));
        await ExpectAsync("Lost");
        var isSeen = false;
        for (var i = 0; i < 200 && !isSeen; i++)
        {
            File.WriteAllText(PathOf($"late/f{i}"), "");
            var next = ReadAsync(e => e.StartsWith("Created late/f", StringComparison.Ordinal));
            isSeen = await Task.WhenAny(next, Task.Delay(TimeSpan.FromSeconds(20), TimeProvider.System)) == next;
        }

        Assert.True(isSeen);
    }

    public override async ValueTask DisposeAsync()
    {
        _stream?.Close(mustForget: false);
        await base.DisposeAsync();
    }

    private async Task WatchAsync(string path, FileOptions options = FileOptions.None)
    {
        _stream = await Talk.OpenAsync(Request(FileOperation.Watch, path) with { Options = options });
        _messages = FileTalk.MessagesAsync(_stream).GetAsyncEnumerator();
        await ExpectAsync("Started");
    }

    private Task ExpectAsync(string text) => ReadAsync(e => e == text).WaitAsync(TimeSpan.FromSeconds(60));

    // Events that are told more than once, or that a system call brings along, are passed over.
    private async Task ReadAsync(Func<string, bool> isExpected)
    {
        var seen = new List<string>();
        while (await _messages!.MoveNextAsync())
        {
            Assert.Equal(FileMessage.Event, _messages.Current.Kind);
            var e = FileEvent.Decode(_messages.Current.Body);
            var text = $"{e.Change} {Text(e.Path)} {Text(e.Target)}".TrimEnd();
            if (isExpected(text))
            {
                return;
            }

            seen.Add(text);
        }

        Assert.Fail($"the watch ended after {string.Join(", ", seen.TakeLast(20))}");
    }
}
