using System.Net.Sockets;
using System.Text;
using Pandora.Fakes;

namespace Pandora.Tests.Api.Files;

/// <summary>Files that are written over HTTP by the agent's real code.</summary>
public sealed class FileWriteTests
{
    [Fact]
    public async Task A_file_is_made_and_then_replaced()
    {
        await using var files = await GuestFiles.StartAsync();
        using var made = await files.PutAsync("new/directory/a", "one", "&mode=600&modified_at=1767225600.123456789");
        Assert.Equal(201, (int)made.StatusCode);
        var entry = await GuestFiles.JsonOf(made);
        Assert.Equal(
            (files["new/directory/a"], "a", "file", 3, "0600", made.Headers.ETag!.Tag),
            (entry.GetProperty("path").GetString(), entry.GetProperty("name").GetString(), entry.GetProperty("type").GetString(),
                entry.GetProperty("size").GetInt64(), entry.GetProperty("mode").GetString(), entry.GetProperty("etag").GetString()));
        Assert.Equal(
            new DateTime(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc).AddTicks(1234567), File.GetLastWriteTimeUtc(files["new/directory/a"]));
        using var replaced = await files.PutAsync("new/directory/a", "two");
        Assert.Equal((200, "0600"),
            ((int)replaced.StatusCode, (await GuestFiles.JsonOf(replaced)).GetProperty("mode").GetString()));
        Assert.NotEqual(made.Headers.ETag, replaced.Headers.ETag);
        Assert.Equal("two", await File.ReadAllTextAsync(files["new/directory/a"]));
        using var empty = await files.PutAsync("empty", "");
        Assert.Equal((201, 0L), ((int)empty.StatusCode, new FileInfo(files["empty"]).Length));
        using var orphan = await files.PutAsync("no/such/a", "x", "&parents=false");
        Assert.Equal("file_not_found", await GuestFiles.CodeOf(orphan));
    }

    [Fact]
    public async Task Conditions_keep_a_file_as_it_is()
    {
        await using var files = await GuestFiles.StartAsync();
        async Task<int> PutAsync(string text, params (string, string)[] headers)
        {
            using var answer = await files.PutAsync("a", text, "", headers);
            return (int)answer.StatusCode;
        }

        Assert.Equal(412, await PutAsync("no", ("If-Match", "*")));
        Assert.Equal(201, await PutAsync("one", ("If-None-Match", "*")));
        Assert.Equal(412, await PutAsync("no", ("If-None-Match", "*")));
        using var info = await files.SendAsync(HttpMethod.Get, files.Address("a", "/info"));
        var tag = info.Headers.ETag!.Tag;
        Assert.Equal(200, await PutAsync("two", ("If-Match", tag)));
        Assert.Equal(412, await PutAsync("no", ("If-Match", tag)));
        Assert.Equal(200, await PutAsync("three", ("If-Match", "*")));
        Assert.Equal(400, await PutAsync("no", ("If-Match", $"{tag}, \"x\"")));
        Assert.Equal(400, await PutAsync("no", ("If-Match", $"W/{tag}")));
        Assert.Equal(400, await PutAsync("no", ("If-None-Match", tag)));
        Assert.Equal(400, await PutAsync("no", ("If-None-Match", "*"), ("If-Match", "*")));
        Assert.Equal("three", await File.ReadAllTextAsync(files["a"]));
    }

    [Theory]
    [InlineData("&mode=999", "mode")]
    [InlineData("&owner=a:b:c", "owner")]
    [InlineData("&owner=", "owner")]
    [InlineData("&owner=no-such-user", "owner")]
    [InlineData("&modified_at=soon", "modified_at")]
    [InlineData("&parents=maybe", "parents")]
    [InlineData("&sparse=maybe", "sparse")]
    public async Task A_wrong_parameter_is_named(string more, string field)
    {
        await using var files = await GuestFiles.StartAsync();
        using var answer = await files.PutAsync("a", "x", more);
        Assert.Equal(400, (int)answer.StatusCode);
        Assert.Equal(field, (await GuestFiles.JsonOf(answer)).GetProperty("errors").EnumerateObject().Single().Name);
        Assert.Empty(Directory.EnumerateFileSystemEntries(files.Root));
    }

    [Theory]
    [InlineData("PUT", "", "Content-Range", "bytes 0-0/2")]
    [InlineData("PUT", "", "Content-Encoding", "gzip")]
    [InlineData("PUT", "", "If-Unmodified-Since", "Fri, 01 Jan 2010 00:00:00 GMT")]
    [InlineData("DELETE", "", "If-Match", "\"x\"")]
    [InlineData("DELETE", "", "If-None-Match", "*")]
    [InlineData("DELETE", "", "If-Unmodified-Since", "Fri, 01 Jan 2010 00:00:00 GMT")]
    [InlineData("PUT", "/tar", "Content-Range", "bytes 0-0/2")]
    [InlineData("PUT", "/tar", "If-None-Match", "*")]
    public async Task What_would_be_ignored_to_the_clients_harm_is_refused(string method, string route, string header, string value)
    {
        await using var files = await GuestFiles.StartAsync();
        await File.WriteAllTextAsync(files["a"], "old");
        using var content = new ByteArrayContent("x"u8.ToArray());
        if (header.StartsWith("Content-", StringComparison.Ordinal))
        {
            content.Headers.TryAddWithoutValidation(header, value);
        }

        using var answer = await files.SendAsync(
            new HttpMethod(method), files.Address("a", route), method == "PUT" ? content : null, (header, value));
        Assert.Equal(400, (int)answer.StatusCode);
        Assert.Equal(header, (await GuestFiles.JsonOf(answer)).GetProperty("errors").EnumerateObject().Single().Name, ignoreCase: true);
        Assert.Equal("old", await File.ReadAllTextAsync(files["a"]));
    }

    [Theory]
    [InlineData("Content-Length: 1000000", "the beginning", "")]
    [InlineData("Transfer-Encoding: chunked", "d\r\nthe beginning\r\n", "")]
    [InlineData("Transfer-Encoding: chunked", "d\r\nthe beginning\r\n", "no chunk\r\n")]
    public async Task A_body_that_is_cut_off_changes_nothing(string header, string beginning, string more)
    {
        await using var files = await GuestFiles.StartAsync();
        await File.WriteAllTextAsync(files["a"], "old");
        var (sandbox, time) = (files.Server.Node.Sandboxes.Get(files.Id), files.Server.Node.Time);
        using (var socket = new Socket(SocketType.Stream, ProtocolType.Tcp))
        {
            var port = files.Server.Http.BaseAddress!.Port;
            await socket.ConnectAsync("127.0.0.1", port);
            await socket.SendAsync(Encoding.ASCII.GetBytes(
                $"PUT {files.Address("a")} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nExpect: 100-continue\r\n{header}\r\n\r\n"));
            await using var stream = new NetworkStream(socket);
            using var reader = new StreamReader(stream);
            // The server asks for the body when the guest waits for it. Its bytes are an activity when the guest has them.
            Assert.Equal("HTTP/1.1 100 Continue", await reader.ReadLineAsync());
            time.Advance(TimeSpan.FromSeconds(1));
            await stream.WriteAsync(Encoding.ASCII.GetBytes(beginning));
            await FakeNode.UntilAsync(() => sandbox.Idle < TimeSpan.FromSeconds(1));
            await stream.WriteAsync(Encoding.ASCII.GetBytes(more));
            socket.Shutdown(SocketShutdown.Send);
            await EndsAsync(reader);
        }

        Assert.Equal("old", await File.ReadAllTextAsync(files["a"]));
        await FakeNode.UntilAsync(() => Directory.EnumerateFileSystemEntries(files.Root).Count() == 1);
        using var later = await files.PutAsync("a", "new");
        Assert.Equal(200, (int)later.StatusCode);
    }

    [Fact]
    public async Task A_sandbox_that_is_deleted_meanwhile_leaves_the_old_file()
    {
        await using var files = await GuestFiles.StartAsync();
        await File.WriteAllTextAsync(files["a"], "old");
        var pipe = new System.IO.Pipelines.Pipe();
        var answering = files.SendAsync(HttpMethod.Put, files.Address("a"), new StreamContent(pipe.Reader.AsStream()));
        var (sandbox, time) = (files.Server.Node.Sandboxes.Get(files.Id), files.Server.Node.Time);
        time.Advance(TimeSpan.FromSeconds(1));
        await pipe.Writer.WriteAsync(new byte[100_000]);
        await FakeNode.UntilAsync(() => sandbox.Idle < TimeSpan.FromSeconds(1));
        await files.Server.SendAsync(HttpMethod.Delete, $"/sandboxes/{files.Id}");
        await pipe.Writer.WriteAsync(new byte[10]);
        pipe.Writer.Complete();
        using var answer = await answering.WaitAsync(TimeSpan.FromMinutes(1), TimeProvider.System);
        Assert.Equal("sandbox_not_found", await GuestFiles.CodeOf(answer));
        Assert.Equal("old", await File.ReadAllTextAsync(files["a"]));
        await FakeNode.UntilAsync(() => Directory.EnumerateFileSystemEntries(files.Root).Count() == 1);
    }

    [Fact]
    public async Task A_slow_client_keeps_its_sandbox_busy_by_the_bytes_that_it_sends()
    {
        await using var files = await GuestFiles.StartAsync();
        var pipe = new System.IO.Pipelines.Pipe();
        var answering = files.SendAsync(HttpMethod.Put, files.Address("a"), new StreamContent(pipe.Reader.AsStream()));
        var (sandbox, time) = (files.Server.Node.Sandboxes.Get(files.Id), files.Server.Node.Time);
        var silence = TimeSpan.FromSeconds(20);
        for (var i = 0; i < 3; i++)
        {
            // More than HttpClient keeps back.
            await pipe.Writer.WriteAsync(new byte[20_000]);
            await FakeNode.UntilAsync(() => sandbox.Idle < silence);
            double idle;
            do
            {
                // Again, if some of the bytes have come late.
                await FakeNode.UntilAsync(() =>
                {
                    time.Advance(TimeSpan.FromMilliseconds(1));
                    return sandbox.Idle > TimeSpan.Zero;
                });
                time.Advance(silence);
                var shown = await files.Server.SendAsync(HttpMethod.Get, $"/sandboxes/{files.Id}");
                idle = shown.Body.GetProperty("idle_seconds").GetDouble();
            }
            while (idle < 1);

            Assert.InRange(idle, 20, 21);
        }

        pipe.Writer.Complete();
        using var answer = await answering;
        Assert.Equal((201, 60_000L), ((int)answer.StatusCode, new FileInfo(files["a"]).Length));
    }

    // With an answer or without one.
    private static async Task EndsAsync(StreamReader reader)
    {
        try
        {
            await reader.ReadToEndAsync().WaitAsync(TimeSpan.FromMinutes(1), TimeProvider.System);
        }
        catch (IOException)
        {
            // The server cut the connection.
        }
    }
}
