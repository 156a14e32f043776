using Pandora.Agent.Protocol.Files;
using Pandora.Agent.Protocol.Processes;
using Pandora.Tests.Guests;

namespace Pandora.Tests.Api.Files;

/// <summary>What a guest answers that is no success, and what no honest guest answers.</summary>
public sealed class GuestFailureTests
{
    [Theory]
    [InlineData(FileFailureKind.NotFound, 404, "file_not_found", null)]
    [InlineData(FileFailureKind.Denied, 403, "file_access_denied", null)]
    [InlineData(FileFailureKind.Exists, 409, "file_exists", null)]
    [InlineData(FileFailureKind.WrongKind, 409, "file_state", null)]
    [InlineData(FileFailureKind.Full, 507, "disk_full", null)]
    [InlineData(FileFailureKind.Path, 400, "invalid_request", "path")]
    [InlineData(FileFailureKind.User, 400, "invalid_request", "user")]
    [InlineData(FileFailureKind.Archive, 400, "invalid_request", "body")]
    [InlineData(FileFailureKind.Condition, 412, "file_precondition", null)]
    [InlineData(FileFailureKind.TooMany, 429, "too_many_file_requests", null)]
    [InlineData(FileFailureKind.Guest, 409, "file_failed", null)]
    [InlineData(FileFailureKind.Protocol, 502, "guest_unreachable", null)]
    [InlineData((FileFailureKind)200, 502, "guest_unreachable", null)]
    public async Task Each_failure_has_its_code(object kind, int status, string code, string? field)
    {
        await using var files = await ScriptedFiles.StartAsync((stream, _, message) =>
        {
            if (message == FileMessage.Request)
            {
                stream.Refuse((FileFailureKind)kind);
            }
        });
        await using var clock = files.Server.Node.RunClock();
        foreach (var (method, path) in new[]
        {
            (HttpMethod.Get, "?path=/a"), (HttpMethod.Put, "?path=/a"), (HttpMethod.Delete, "?path=/a"), (HttpMethod.Get, "/info?path=/a"),
            (HttpMethod.Get, "/list?path=/a"), (HttpMethod.Get, "/tar?path=/a"), (HttpMethod.Put, "/tar?path=/a"),
            (HttpMethod.Get, "/watch?path=/a"),
        })
        {
            Assert.Equal((status, code, field), await files.SendAsync(method, path, method == HttpMethod.Put ? "body" : null));
        }

        // The guest does not say which path is at fault.
        var move = await files.SendAsync(HttpMethod.Post, "/move", """{"from": "/a", "to": "/b"}""");
        Assert.Equal((status, code, field == "path" ? "to" : field), move);
        Assert.All(files.Streams, s => Assert.True(s.IsClosed));
    }

    [Fact]
    public async Task An_unknown_owner_is_named_as_the_owner()
    {
        await using var files = await ScriptedFiles.StartAsync((stream, _, message) =>
        {
            if (message == FileMessage.Request)
            {
                stream.Refuse(FileFailureKind.User, "there is no user 'nobody2'");
            }
        });
        Assert.Equal((400, "invalid_request", "owner"), await files.SendAsync(HttpMethod.Put, "?path=/a&owner=nobody2", "x"));
        Assert.Equal((400, "invalid_request", "owner"), await files.SendAsync(HttpMethod.Put, "?path=/a&owner=nobody2&user=me", "x"));
        Assert.Equal((400, "invalid_request", "user"), await files.SendAsync(HttpMethod.Put, "?path=/a&owner=me&user=nobody2", "x"));
    }

    [Fact]
    public async Task An_agent_that_knows_no_files_is_said_to_know_none()
    {
        await using var files = await ScriptedFiles.StartAsync((stream, _, _) =>
        {
            stream.Send(ProcessMessage.Failed, new FailureReport(FailureKind.Protocol, "what is 65?").Encode());
            stream.End();
        });
        Assert.Equal((501, "files_unsupported", null), await files.SendAsync(HttpMethod.Get, "?path=/a"));
        Assert.Equal((501, "files_unsupported", null), await files.SendAsync(HttpMethod.Put, "?path=/a", "x"));
    }

    public static TheoryData<string> Lies =>
    [
        "unknown kind", "no body", "long message", "bytes first", "two entries", "done first", "relative path", "NUL", "process output",
        "end", "break",
    ];

    [Theory]
    [MemberData(nameof(Lies))]
    public async Task A_message_that_cannot_be_is_no_defect_of_the_server(string lie)
    {
        await using var files = await ScriptedFiles.StartAsync((stream, _, message) =>
        {
            if (message == FileMessage.Request)
            {
                Lie(stream, lie);
            }
        });
        await using var clock = files.Server.Node.RunClock();
        Assert.Equal((502, "guest_unreachable", null), await files.SendAsync(HttpMethod.Get, "/info?path=/a"));
        Assert.Equal((502, "guest_unreachable", null), await files.SendAsync(HttpMethod.Put, "?path=/a", "body"));
        Assert.Equal(
            (502, "guest_unreachable", null), await files.SendAsync(HttpMethod.Post, "/copy", """{"from": "/a", "to": "/b"}"""));
        Assert.All(files.Streams, s => Assert.True(s.IsClosed));
        Assert.Equal(200, (await files.Server.SendAsync(HttpMethod.Get, $"/sandboxes/{files.Id}")).Status);
    }

    [Fact]
    public async Task A_list_without_end_is_cut()
    {
        await using var files = await ScriptedFiles.StartAsync((stream, request, _) =>
        {
            for (var i = 0; i <= request.Limit; i++)
            {
                stream.Entry(ScriptedFiles.Entry());
            }
        });
        await using var clock = files.Server.Node.RunClock();
        Assert.Equal((502, "guest_unreachable", null), await files.SendAsync(HttpMethod.Get, "/list?path=/a&limit=5"));
    }

    [Fact]
    public async Task A_page_of_very_long_paths_is_short_and_has_more()
    {
        var path = "/a/" + new string('x', 60_000);
        await using var files = await ScriptedFiles.StartAsync((stream, request, _) =>
        {
            for (var i = 0; i < request.Limit; i++)
            {
                stream.Entry(ScriptedFiles.Entry(path));
            }

            stream.Done(new FileResult(HasMore: true));
        });
        var page = (await files.Server.SendAsync(HttpMethod.Get, files.Address + "/list?path=/a&limit=1000")).Body;
        Assert.InRange(page.GetProperty("entries").GetArrayLength(), 50, 100);
        var next = page.GetProperty("next").GetString();
        await files.Server.SendAsync(HttpMethod.Get, files.Address + $"/list?path=/a&limit=1000&after={next![..40]}");
        Assert.StartsWith("xxxx", System.Text.Encoding.UTF8.GetString(files.Requests[^1].After), StringComparison.Ordinal);
    }

    private static void Lie(ScriptedStream stream, string lie)
    {
        switch (lie)
        {
            case "unknown kind":
                stream.Send((ProcessMessage)250);
                break;
            case "no body":
                stream.Say(FileMessage.Entry, []);
                break;
            case "long message":
                stream.SendRaw([0xFF, 0xFF, 0xFF, 0x7F, (byte)FileMessage.Entry]);
                break;
            case "bytes first":
                stream.Bytes(5);
                break;
            case "two entries":
                stream.Entry(ScriptedFiles.Entry());
                stream.Entry(ScriptedFiles.Entry());
                break;
            case "done first":
                stream.Done();
                break;
            case "relative path":
                stream.Entry(ScriptedFiles.Entry("relative"));
                break;
            case "NUL":
                stream.Entry(ScriptedFiles.Entry("/a\0b"));
                break;
            case "process output":
                stream.Output(0, 1, 65);
                break;
            case "end":
                stream.End();
                break;
            default:
                stream.Fail("a test broke it");
                break;
        }
    }
}
