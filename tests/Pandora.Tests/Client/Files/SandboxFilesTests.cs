using Microsoft.AspNetCore.Http;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Tests.Client.Files;

/// <summary>Single files, lists and watches, over HTTP.</summary>
public sealed class SandboxFilesTests : IAsyncLifetime
{
    private FilesServer _server = null!;
    private PandoraClient _pandora = null!;

    private SandboxFiles Files => _pandora.Connect("abc").Files;

    public async ValueTask InitializeAsync()
    {
        _server = await FilesServer.StartAsync();
        _pandora = new PandoraClient(_server.Url);
    }

    public async ValueTask DisposeAsync()
    {
        _pandora.Dispose();
        await _server.DisposeAsync();
    }

    [Fact]
    public async Task What_was_written_is_read_as_text_bytes_and_stream()
    {
        var entry = await Files.WriteAsync("a/ü + b.txt", "hällo", cancellationToken: Token);
        Assert.Equal(("/home/a/ü + b.txt", "file", 6L), (entry.Path, entry.Type, entry.Size));
        Assert.Equal("PUT ?path=a%2F%C3%BC%20%2B%20b.txt", _server.Requests[^1]);
        Assert.Equal("hällo", await Files.ReadTextAsync("a/ü + b.txt", cancellationToken: Token));
        Assert.Equal("hällo"u8.ToArray(), await Files.ReadBytesAsync("/home/a/ü + b.txt", cancellationToken: Token));
        await using var stream = await Files.OpenReadAsync("a/ü + b.txt", cancellationToken: Token);
        Assert.Equal(6, stream.Length);
    }

    [Fact]
    public async Task A_part_of_a_file_is_read_by_its_offset()
    {
        await Files.WriteAsync("f", "0123456789", cancellationToken: Token);
        Assert.Equal("234", await Files.ReadTextAsync("f", new ReadFileOptions { Offset = 2, Count = 3 }, Token));
        Assert.Equal("89", await Files.ReadTextAsync("f", new ReadFileOptions { Offset = 8 }, Token));
        var error = await Assert.ThrowsAsync<PandoraApiException>(
            () => Files.ReadTextAsync("f", new ReadFileOptions { Offset = 10 }, Token));
        Assert.Equal("file_range", error.Code);
    }

    [Fact]
    public async Task Options_of_a_write_are_sent_as_the_wire_has_them()
    {
        var time = DateTimeOffset.UnixEpoch.AddSeconds(1.5);
        await Files.WriteAsync(
            "f", "x"u8.ToArray(),
            new WriteFileOptions
            {
                User = "1000",
                Mode = (UnixFileMode)0x9ED,
                Owner = "a:b",
                MakesParents = false,
                IsSparse = true,
                ModifiedAt = time,
            }, Token);
        Assert.Equal("PUT ?path=f&user=1000&mode=4755&owner=a%3Ab&parents=false&sparse=true&modified_at=1.5", _server.Requests[^1]);
        Assert.Equal(time, (await Files.GetInfoAsync("f", cancellationToken: Token)).ModifiedAt);
    }

    [Fact]
    public async Task A_read_that_was_cut_goes_on_with_the_next_byte()
    {
        var content = new byte[300_000];
        Random.Shared.NextBytes(content);
        await Files.WriteAsync("f", content, cancellationToken: Token);
        _server.Cuts.Enqueue(100_000);
        _server.Cuts.Enqueue(50_000);
        Assert.Equal(content, await Files.ReadBytesAsync("f", cancellationToken: Token));
        Assert.Equal(3, _server.Requests.Count(r => r.StartsWith("GET ", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task A_read_that_was_cut_never_ends_with_a_part()
    {
        await Files.WriteAsync("f", new byte[300_000], cancellationToken: Token);
        using var impatient = new PandoraClient(
            new PandoraClientOptions { Url = new Uri(_server.Url), MaxReconnectTime = TimeSpan.Zero });
        _server.Cuts.Enqueue(1000);
        await Assert.ThrowsAsync<UnexpectedAnswerException>(
            () => impatient.Connect("abc").Files.ReadBytesAsync("f", cancellationToken: Token));
    }

    [Fact]
    public async Task A_file_that_changed_after_the_cut_is_not_mixed()
    {
        await Files.WriteAsync("f", new byte[300_000], cancellationToken: Token);
        _server.Cuts.Enqueue(1000);
        await using var stream = await Files.OpenReadAsync("f", cancellationToken: Token);
        await File.WriteAllBytesAsync(_server.Local("f"), new byte[400_000], Token);
        var error = await Assert.ThrowsAsync<PandoraApiException>(() => stream.CopyToAsync(Stream.Null, Token));
        Assert.Equal("file_precondition", error.Code);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_write_that_was_cut_is_begun_again_when_its_source_can_seek(bool canSeek)
    {
        var content = new byte[2_000_000];
        Random.Shared.NextBytes(content);
        var cuts = 1;
        _server.Instead = async context =>
        {
            if (cuts-- <= 0)
            {
                return false;
            }

            await context.Request.Body.ReadExactlyAsync(new byte[100_000]);
            context.Abort();
            return true;
        };
        using var source = new MemoryStream(content);
        await using var pipe = new OnceStream(source);
        if (canSeek)
        {
            await Files.WriteAsync("f", source, cancellationToken: Token);
            Assert.Equal(content, await File.ReadAllBytesAsync(_server.Local("f"), Token));
        }
        else
        {
            await Assert.ThrowsAsync<UnexpectedAnswerException>(() => Files.WriteAsync("f", pipe, cancellationToken: Token));
            Assert.Single(_server.Requests);
        }
    }

    [Fact]
    public async Task A_refusal_before_the_body_lets_a_pipe_be_sent_again()
    {
        var refusals = 1;
        _server.Instead = async context =>
        {
            if (refusals-- <= 0)
            {
                return false;
            }

            context.Response.Headers.RetryAfter = "0";
            await FilesServer.RefuseAsync(context, 429, "too_many_file_requests");
            return true;
        };
        await using var pipe = new OnceStream(new MemoryStream("once"u8.ToArray()));
        await Files.WriteAsync("f", pipe, cancellationToken: Token);
        Assert.Equal("once", await File.ReadAllTextAsync(_server.Local("f"), Token));
    }

    [Fact]
    public async Task Errors_and_conditions_have_their_codes()
    {
        async Task<string?> CodeAsync(Func<Task> call) => (await Assert.ThrowsAsync<PandoraApiException>(call)).Code;
        Assert.Equal("file_not_found", await CodeAsync(() => Files.ReadTextAsync("none", cancellationToken: Token)));
        Assert.Equal("file_state", await CodeAsync(() => Files.ReadTextAsync("/home", cancellationToken: Token)));
        var entry = await Files.WriteAsync("f", "1", cancellationToken: Token);
        Assert.Equal("file_precondition", await CodeAsync(
            () => Files.WriteAsync("f", "2", new WriteFileOptions { MustNotExist = true }, Token)));
        Assert.Equal("file_precondition", await CodeAsync(
            () => Files.WriteAsync("f", "2", new WriteFileOptions { IfMatch = "\"other\"" }, Token)));
        await Files.WriteAsync("f", "2", new WriteFileOptions { IfMatch = entry.ETag }, Token);
        Assert.True(await Files.ExistsAsync("f", cancellationToken: Token));
        Assert.False(await Files.ExistsAsync("none", cancellationToken: Token));
    }

    [Fact]
    public async Task Directories_are_made_and_files_moved_copied_and_deleted()
    {
        await Files.MakeDirectoryAsync("d/e", new MakeDirectoryOptions { Mode = (UnixFileMode)0x1C0 }, Token);
        Assert.Contains("\"mode\":\"0700\"", _server.Bodies[^1], StringComparison.Ordinal);
        await Files.WriteAsync("d/f", "1", cancellationToken: Token);
        await Files.CopyAsync("d/f", "d/g", cancellationToken: Token);
        await Files.MoveAsync("d/g", "d/h", cancellationToken: Token);
        var error = await Assert.ThrowsAsync<PandoraApiException>(() => Files.MoveAsync("d/f", "d/h", cancellationToken: Token));
        Assert.Equal("file_exists", error.Code);
        await Files.MoveAsync("d/f", "d/h", new MoveFileOptions { Replaces = true }, Token);
        Assert.Equal(["/home/d/e", "/home/d/h"], (await Files.ListAsync("d", null, Token).ToListAsync(Token)).Select(f => f.Path));
        await Assert.ThrowsAsync<PandoraApiException>(() => Files.DeleteAsync("d", cancellationToken: Token));
        await Files.DeleteAsync("d", recursive: true, cancellationToken: Token);
        Assert.False(Directory.Exists(_server.Local("d")));
    }

    [Fact]
    public async Task A_list_is_whole_over_many_pages()
    {
        for (var i = 0; i < 25; i++)
        {
            await Files.WriteAsync($"d/{i:00}", "", cancellationToken: Token);
        }

        var names = await Files.ListAsync("d", new ListFilesOptions { PageSize = 10 }, Token).Select(f => f.Name).ToListAsync(Token);
        Assert.Equal(Enumerable.Range(0, 25).Select(i => $"{i:00}"), names);
        Assert.Equal(3, _server.Requests.Count(r => r.StartsWith("GET /list", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task A_watch_goes_on_after_a_cut_and_says_that_events_were_lost()
    {
        var connections = 0;
        _server.Instead = async context =>
        {
            var events = connections++ == 0
                ? "event: started\ndata: {}\n\nevent: heartbeat\ndata: {}\n\nevent: created\ndata: {\"path\":\"a\"}\n\n"
                : "event: started\ndata: {}\n\nevent: moved\ndata: {\"path\":\"a\",\"target\":\"b\",\"is_directory\":true}\n\n"
                    + "event: gone\ndata: {}\n\n";
            context.Response.ContentType = "text/event-stream";
            await context.Response.WriteAsync(events);
            return true;
        };
        Assert.Equal(
            [
                new(FileEvents.Started), new(FileEvents.Created, "a"), new(FileEvents.Lost),
                new(FileEvents.Moved, "a", "b", IsDirectory: true), new(FileEvents.Gone),
            ],
            await Files.WatchAsync("d", recursive: true, cancellationToken: Token).ToListAsync(Token));
        Assert.Equal("GET /watch?path=d&recursive=true", _server.Requests[^1]);
    }

    [Fact]
    public async Task A_watch_that_cannot_go_on_says_why()
    {
        _server.Instead = async context =>
        {
            context.Response.ContentType = "text/event-stream";
            await context.Response.WriteAsync(
                "event: started\ndata: {}\n\nevent: error\ndata: {\"code\":\"file_failed\",\"detail\":\"no\"}\n\n");
            return true;
        };
        var error = await Assert.ThrowsAsync<PandoraApiException>(
            async () => await Files.WatchAsync("d", cancellationToken: Token).ToListAsync(Token));
        Assert.Equal("file_failed", error.Code);
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    /// <summary>A stream as a pipe is: it cannot seek.</summary>
    private sealed class OnceStream(Stream inner) : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override int Read(byte[] buffer, int offset, int count) => inner.Read(buffer, offset, count);

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
