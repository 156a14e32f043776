using System.Net.Sockets;
using System.Text;
using Pandora.Agent.Protocol.Files;
using Pandora.Agent.Protocol.Processes;
using Pandora.Engine.Guests.Agent;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;
using Pandora.Server.Api.Files;

namespace Pandora.Tests.Api.Files;

/// <summary>Guests that say nothing, clients that send or read nothing, and what ends requests.</summary>
public sealed class SilentGuestFilesTests
{
    private static readonly TimeSpan Slack = TimeSpan.FromSeconds(1);

    [Theory]
    [InlineData("GET", "?path=/a")]
    [InlineData("GET", "/info?path=/a")]
    [InlineData("PUT", "?path=/a")]
    [InlineData("GET", "/watch?path=/a")]
    public async Task A_guest_that_is_silent_and_does_not_live_is_unreachable(string method, string path)
    {
        await using var files = await ScriptedFiles.StartAsync((_, _, _) => { });
        var answering = files.SendAsync(HttpMethod.Parse(method), path, method == "PUT" ? "x" : null);
        // The request waits before the clock moves. What a client writes begins the wait anew.
        await FakeNode.UntilAsync(() => files.Server.Node.Time.TimersOf(AgentFileRequest.Silence) > 0
            && (method != "PUT" || files.Streams[0].Received.Contains((ProcessMessage)FileMessage.EndWrite)));
        files.Server.Node.Time.Advance(AgentFileRequest.Silence + Slack);
        await FakeNode.UntilAsync(() => files.Requests.Count == 2);
        Assert.False(answering.IsCompleted);
        await using var clock = files.Server.Node.RunClock(speed: 100);
        Assert.Equal((502, "guest_unreachable", null), await answering);
        Assert.All(files.Streams, s => Assert.True(s.IsClosed));
    }

    [Fact]
    public async Task A_guest_that_works_for_long_and_lives_is_waited_for_up_to_ten_minutes()
    {
        await using var files = await ScriptedFiles.StartAsync((stream, request, _) =>
        {
            if (request.Operation == FileOperation.Show)
            {
                stream.Refuse(FileFailureKind.TooMany);
            }
        });
        var answering = files.SendAsync(HttpMethod.Delete, "?path=/a&recursive=true");
        var time = files.Server.Node.Time;
        await FakeNode.UntilAsync(() => time.TimersOf(AgentFileRequest.Silence) > 0);
        for (var asked = 2; asked < 12; asked++)
        {
            var before = time.TimersOf(AgentFileRequest.Silence);
            time.Advance(AgentFileRequest.Silence + Slack);
            // The answer to the question is heard before the request waits again.
            await FakeNode.UntilAsync(() => files.Requests.Count == asked && files.Streams[^1].IsClosed
                && time.TimersOf(AgentFileRequest.Silence) > before);
            Assert.False(answering.IsCompleted);
        }

        files.Streams[0].Done();
        Assert.Equal(204, (await answering).Status);
        answering = files.SendAsync(HttpMethod.Delete, "?path=/a&recursive=true");
        await using var clock = files.Server.Node.RunClock(speed: 100);
        Assert.Equal((502, "guest_unreachable", null), await answering);
    }

    [Fact]
    public async Task A_client_that_sends_nothing_is_refused_after_a_minute_and_writes_nothing()
    {
        await using var files = await ScriptedFiles.StartAsync((_, _, _) => { }, onLoopback: true);
        var port = files.Server.Http.BaseAddress!.Port;
        using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync("127.0.0.1", port);
        await socket.SendAsync(Encoding.ASCII.GetBytes(
            $"PUT {files.Address}?path=/a HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 1000\r\n\r\nbegin"));
        await FakeNode.UntilAsync(() => files.Streams.Count == 1 && files.Streams[0].Received.Count == 2);
        await FakeNode.UntilAsync(() =>
        {
            files.Server.Node.Time.Advance(FileBody.Patience + Slack);
            return socket.Available > 0;
        });
        var answer = new byte[4096];
        var length = await socket.ReceiveAsync(answer).WaitAsync(TimeSpan.FromMinutes(1), TimeProvider.System);
        Assert.StartsWith("HTTP/1.1 408", Encoding.ASCII.GetString(answer, 0, length), StringComparison.Ordinal);
        Assert.DoesNotContain((ProcessMessage)FileMessage.EndWrite, files.Streams[0].Received);
        Assert.True(files.Streams[0].IsClosed);
    }

    [Fact]
    public async Task The_seventeenth_request_is_refused_and_the_sixteenth_not()
    {
        await using var files = await ScriptedFiles.StartAsync((stream, request, _) =>
        {
            if (request.Operation == FileOperation.Watch)
            {
                stream.Say(FileMessage.Event, new FileEvent(FileChange.Started, [], [], false).Encode());
            }
            else
            {
                stream.Entry(ScriptedFiles.Entry());
                stream.Done();
            }
        });
        var watches = new List<ServerEvents>();
        for (var i = 0; i < Sandbox.MaxFileRequests; i++)
        {
            watches.Add(await ServerEvents.OpenAsync(files.Server.Http, HttpMethod.Get, files.Address + "/watch?path=/a"));
        }

        Assert.Equal((429, "too_many_file_requests", null), await files.SendAsync(HttpMethod.Get, "/info?path=/a"));
        Assert.Equal((429, "too_many_file_requests", null), await files.SendAsync(HttpMethod.Put, "?path=/a", "x"));
        await watches[0].DisposeAsync();
        for (var status = 0; status != 200; status = (await files.SendAsync(HttpMethod.Get, "/info?path=/a")).Status)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
        }

        foreach (var watch in watches)
        {
            await watch.DisposeAsync();
        }
    }

    [Fact]
    public async Task A_watch_is_no_activity_beats_and_ends_with_its_sandbox()
    {
        await using var files = await ScriptedFiles.StartAsync((stream, _, _) =>
            stream.Say(FileMessage.Event, new FileEvent(FileChange.Started, [], [], false).Encode()));
        await using var watch = await ServerEvents.OpenAsync(files.Server.Http, HttpMethod.Get, files.Address + "/watch?path=/a");
        await watch.NextAsync("started");
        await FakeNode.UntilAsync(() => files.Server.Node.Time.TimersOf(TimeSpan.FromSeconds(15)) > 0);
        files.Server.Node.Time.Advance(TimeSpan.FromSeconds(16));
        Assert.Equal("{}", (await watch.NextAsync("heartbeat")).GetRawText());
        var moved = new FileEvent(FileChange.Moved, "old"u8.ToArray(), [0xFF], IsDirectory: true);
        files.Streams[0].Say(FileMessage.Event, moved.Encode());
        Assert.Equal(
            """{"path":"old","target":"�","is_directory":true,"target_base64":"/w=="}""", (await watch.NextAsync("moved")).GetRawText());
        var idle = (await files.Server.SendAsync(HttpMethod.Get, $"/sandboxes/{files.Id}")).Body.GetProperty("idle_seconds").GetDouble();
        Assert.InRange(idle, 16, 20);
        Assert.Equal(204, (await files.Server.SendAsync(HttpMethod.Delete, $"/sandboxes/{files.Id}")).Status);
        Assert.Equal("sandbox_not_found", (await watch.NextAsync("error")).GetProperty("code").GetString());
        Assert.Null(await watch.NextAsync());
    }

    [Theory]
    [InlineData("GET", "/info?path=/a")]
    [InlineData("GET", "?path=/a")]
    [InlineData("PUT", "?path=/a")]
    [InlineData("PUT", "/tar?path=/a")]
    public async Task A_sandbox_that_is_deleted_ends_its_requests(string method, string path)
    {
        await using var files = await ScriptedFiles.StartAsync((_, _, _) => { });
        var answering = files.SendAsync(HttpMethod.Parse(method), path, method == "PUT" ? "x" : null);
        await FakeNode.UntilAsync(() => files.Streams.Count == 1);
        Assert.Equal(204, (await files.Server.SendAsync(HttpMethod.Delete, $"/sandboxes/{files.Id}")).Status);
        Assert.Equal((404, "sandbox_not_found", null), await answering.WaitAsync(TimeSpan.FromMinutes(1), TimeProvider.System));
    }

    [Fact]
    public async Task A_server_that_stops_ends_its_requests()
    {
        await using var files = await ScriptedFiles.StartAsync((_, _, _) => { });
        var answering = files.SendAsync(HttpMethod.Get, "?path=/a");
        await FakeNode.UntilAsync(() => files.Streams.Count == 1);
        await files.Server.Node.StopAsync(keep: true);
        Assert.Equal((503, "shutting_down", null), await answering.WaitAsync(TimeSpan.FromMinutes(1), TimeProvider.System));
    }
}
