using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Pandora.Engine.Guests;
using Pandora.Fakes;

namespace Pandora.Tests.E2b;

/// <summary>The agent's port of the E2B front end: its token, the Connect protocol, and processes.</summary>
public sealed class E2bAgentTests
{
    private const string Start = """{"process": {"cmd": "run"}}""";

    [Theory]
    [InlineData(null, 401)]
    [InlineData("", 401)]
    [InlineData("0000000000000000000000000000000000000000", 401)]
    [InlineData("TOKEN", 404)]
    public async Task Without_the_token_nothing_but_the_health_answers(string? shown, int status)
    {
        await using var world = await E2bWorld.StartAsync();
        foreach (var path in new[] { "/init", "/metrics", "/process.Process/Unknown" })
        {
            var token = shown == "TOKEN" ? world.Token : shown ?? "none";
            using var request = world.Request(HttpMethod.Post, path, [], "application/json", token);
            using var answer = await world.Api.Http.SendAsync(request);
            Assert.Equal(status, (int)answer.StatusCode);
            Assert.Contains($"\"code\":{status}", await answer.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        }

        using var health = world.Request(HttpMethod.Get, "/health", shown: "none");
        using var healthy = await world.Api.Http.SendAsync(health);
        Assert.Equal(HttpStatusCode.NoContent, healthy.StatusCode);
        using var files = world.Request(HttpMethod.Get, "/files?path=a", shown: "none");
        using var refused = await world.Api.Http.SendAsync(files);
        Assert.Contains("missing signature query parameter", await refused.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_sandbox_that_is_gone_or_unknown_is_not_found_by_the_gateway()
    {
        await using var world = await E2bWorld.StartAsync();
        var own = await world.Api.CreateAsync();
        Assert.Equal(204, (await world.Api.SendAsync(HttpMethod.Delete, $"/e2b/sandboxes/{world.Id}")).Status);
        Assert.Equal(404, (await world.Api.SendAsync(HttpMethod.Delete, $"/e2b/sandboxes/{world.Id}")).Status);
        // Without a connect, a sandbox of the server's own API has no token either.
        foreach (var id in new[] { world.Id, own, "none" })
        {
            foreach (var port in new[] { "49983", "3000" })
            {
                var lost = await world.Api.SendAsync(
                    HttpMethod.Get, "/e2b/health", headers: [("E2b-Sandbox-Id", id), ("E2b-Sandbox-Port", port)]);
                Assert.Equal(502, lost.Status);
                Assert.Equal(
                    $$"""{"sandboxId":"{{id}}","message":"The sandbox was not found","code":502}""", lost.Body.GetRawText());
            }
        }
    }

    [Fact]
    public async Task Ports_of_a_sandbox_of_the_servers_own_API_stay_private_after_a_connect()
    {
        await using var world = await E2bWorld.StartAsync();
        var own = await world.Api.CreateAsync();
        var connected = await world.Api.SendAsync(HttpMethod.Post, $"/e2b/v2/sandboxes/{own}/connect", "");
        Assert.Equal(200, connected.Status);
        var refused = await world.Api.SendAsync(
            HttpMethod.Get, "/e2b/", headers: [("E2b-Sandbox-Id", own), ("E2b-Sandbox-Port", "3000")]);
        Assert.Equal(403, refused.Status);
    }

    [Fact]
    public async Task A_secured_port_needs_its_token()
    {
        await using var world = await E2bWorld.StartAsync("""{"templateID": "base", "network": {"allowPublicTraffic": false}}""");
        var token = world.Api.Node.Sandboxes.List().Single();
        Assert.NotNull(token);
        var connected = await world.Api.SendAsync(HttpMethod.Post, $"/e2b/v2/sandboxes/{world.Id}/connect", "{}");
        var traffic = connected.Body.GetProperty("trafficAccessToken").GetString()!;
        Assert.NotEqual(world.Token, traffic);
        foreach (var (shown, status, words) in new[]
        {
            ("", 403, "is missing"), (world.Token, 403, "is invalid"), (traffic, 502, "port is not open"),
        })
        {
            var answer = await world.Api.SendAsync(HttpMethod.Get, "/e2b/x", headers:
            [
                ("E2b-Sandbox-Id", world.Id), ("E2b-Sandbox-Port", "3000"), ("e2b-traffic-access-token", shown),
            ]);
            Assert.Equal(status, answer.Status);
            Assert.Contains(words, answer.Body.GetProperty("message").GetString(), StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("application/json", "", """{"process": {"pid": 1}, "signal": "SIGNAL_SIGKILL"}""", 404, "not_found")]
    [InlineData("application/json; charset=utf-8", "identity", """{"signal": "SIGNAL_SIGKILL"}""", 400, "invalid_argument")]
    [InlineData("application/json", "", """{"process": {"pid": 1}, "signal": "SIGNAL_HUP"}""", 501, "unimplemented")]
    [InlineData("application/json", "", "{", 400, "invalid_argument")]
    [InlineData("application/json", "gzip", "{}", 501, "unimplemented")]
    [InlineData("application/proto", "", "", 501, "unimplemented")]
    public async Task A_call_that_fails_has_the_status_of_its_code(string type, string coding, string body, int status, string code)
    {
        await using var world = await E2bWorld.StartAsync();
        using var request = world.Request(HttpMethod.Post, "/process.Process/SendSignal", Encoding.UTF8.GetBytes(body), type);
        if (coding.Length > 0)
        {
            request.Content!.Headers.ContentEncoding.Add(coding);
        }

        using var answer = await world.Api.Http.SendAsync(request);
        var failure = JsonDocument.Parse(await answer.Content.ReadAsStringAsync()).RootElement;
        Assert.Equal((status, "application/json"), ((int)answer.StatusCode, answer.Content.Headers.ContentType!.MediaType));
        Assert.Equal(code, failure.GetProperty("code").GetString());
    }

    [Theory]
    [InlineData(new byte[] { 0, 0, 0 }, "invalid_argument")]
    [InlineData(new byte[] { 0, 0, 0, 0, 9, 123, 125 }, "invalid_argument")]
    [InlineData(new byte[] { 0, 255, 255, 255, 255, 123, 125 }, "invalid_argument")]
    [InlineData(new byte[] { 1, 0, 0, 0, 2, 123, 125 }, "unimplemented")]
    [InlineData(new byte[] { 0, 0, 0, 0, 2, 123, 125 }, "invalid_argument")]
    public async Task A_stream_that_cannot_begin_ends_with_the_error(byte[] body, string code)
    {
        await using var world = await E2bWorld.StartAsync();
        using var request = world.Request(HttpMethod.Post, "/process.Process/Start", body, "application/connect+json");
        using var answer = await world.Api.Http.SendAsync(request);
        Assert.Equal("application/connect+json", answer.Content.Headers.ContentType!.ToString());
        using var stream = new E2bStream(answer, await answer.Content.ReadAsStreamAsync());
        Assert.Equal(code, (await stream.EndAsync()).GetProperty("error").GetProperty("code").GetString());
    }

    [Fact]
    public async Task A_process_runs_is_fed_resized_and_ends()
    {
        await using var world = await E2bWorld.StartAsync("""{"templateID": "base", "envVars": {"A": "1", "B": "2"}}""");
        using var stream = await world.OpenAsync("process.Process/Start", """
            {"process": {"cmd": "run", "envs": {"B": "3"}, "cwd": "dir"}, "tag": "mine",
             "pty": {"size": {"cols": 80, "rows": 24}}, "future": true}
            """, ("Authorization", "Basic cm9vdDo="), ("Connect-Timeout-Ms", "60000"));
        var pid = (await stream.EventAsync("start")).GetProperty("pid").GetInt32();
        var run = world.Guest.Runs.Single();
        Assert.Equal((run.Pid, "root", "mine", (80, 24)), (pid, run.Spec.User, run.Spec.Tag, run.Spec.Terminal!.Value));
        Assert.Equal((true, TimeSpan.FromMinutes(1), false), (run.Spec.WaitsWhileRead, run.Spec.TimeLimit!.Value, run.Spec.IsForeground));
        Assert.Equal(["run"], run.Spec.Arguments);
        Assert.EndsWith("dir", run.Spec.Directory, StringComparison.Ordinal);
        Assert.Equal(("1", "3", "true", world.Id), (run.Spec.Environment["A"], run.Spec.Environment["B"],
            run.Spec.Environment["E2B_SANDBOX"], run.Spec.Environment["E2B_SANDBOX_ID"]));
        run.Write(OutputStream.Stdout, "hello"u8);
        Assert.Equal("hello", Text((await stream.EventAsync("data")).GetProperty("pty")));
        var select = $$"""{"process": {"pid": {{pid}}}""";
        Assert.Equal(200, (await world.CallAsync("process.Process/SendInput", select + """, "input": {"pty": "QQ=="}}""")).Status);
        Assert.Equal("A", Encoding.ASCII.GetString(run.Input));
        Assert.Equal(200, (await world.CallAsync(
            "process.Process/Update", """{"process": {"tag": "mine"}, "pty": {"size": {"cols": 100, "rows": 30}}}""")).Status);
        Assert.Equal([(100, 30)], run.Sizes);
        Assert.Equal(400, (await world.CallAsync("process.Process/SendInput", select + """, "input": {"stdin": "QQ=="}}""")).Status);
        var listed = (await world.CallAsync("process.Process/List", "{}")).Body.GetProperty("processes").EnumerateArray().Single();
        Assert.Equal((pid, "mine"), (listed.GetProperty("pid").GetInt32(), listed.GetProperty("tag").GetString()));
        run.EndWith(3);
        var end = await stream.EventAsync("end");
        Assert.Equal(
            (3, true, "exit status 3"),
            (end.GetProperty("exitCode").GetInt32(), end.GetProperty("exited").GetBoolean(), end.GetProperty("status").GetString()));
        Assert.Empty((await stream.EndAsync()).EnumerateObject());
        Assert.Equal(404, (await world.CallAsync("process.Process/SendInput", select + """, "input": {"pty": "QQ=="}}""")).Status);
        Assert.Empty((await world.CallAsync("process.Process/List", "{}")).Body.GetProperty("processes").EnumerateArray());
    }

    [Theory]
    [InlineData("/a%20b%0d%0aX:%20y?c=%2F&pandora_link=secret", "/a%20b%0d%0aX:%20y?c=%2F")]
    [InlineData("", "/")]
    [InlineData("/%C3%A9%3Fb", "/%C3%A9%3Fb")]
    public async Task A_program_has_the_target_as_the_client_wrote_it_and_no_credentials(string path, string target)
    {
        await using var world = await E2bWorld.StartAsync();
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        world.Guest.Ports[3000] = (IPEndPoint)listener.LocalEndpoint;
        var serving = Task.Run(async () =>
        {
            using var connection = await listener.AcceptTcpClientAsync();
            using var reader = new StreamReader(connection.GetStream());
            List<string> lines = [];
            while (await reader.ReadLineAsync() is { Length: > 0 } line)
            {
                lines.Add(line);
            }

            await connection.GetStream().WriteAsync("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"u8.ToArray());
            return lines;
        });
        var uri = new Uri(
            $"{world.Api.Http.BaseAddress}e2b{path}", new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true });
        using var request = new HttpRequestMessage(HttpMethod.Get, uri);
        request.Headers.Add("E2b-Sandbox-Id", world.Id);
        request.Headers.Add("E2b-Sandbox-Port", "3000");
        using var answer = await world.Api.Http.SendAsync(request);
        Assert.Equal(HttpStatusCode.NoContent, answer.StatusCode);
        var seen = await serving;
        Assert.Equal($"GET {target} HTTP/1.1", seen[0]);
        Assert.DoesNotContain(seen, l => l.StartsWith("E2b-", StringComparison.OrdinalIgnoreCase));
    }

    [Theory]
    [InlineData("{}", 80, 24, null)]
    [InlineData("""{"size": {"cols": 0, "rows": 40}}""", 80, 40, null)]
    [InlineData("""{"size": {"cols": 65536, "rows": 40}}""", 0, 0, "invalid_argument")]
    [InlineData("""{"size": {"cols": -1, "rows": 40}}""", 0, 0, "invalid_argument")]
    public async Task A_terminal_without_a_size_has_the_usual_one(string pty, int columns, int rows, string? code)
    {
        await using var world = await E2bWorld.StartAsync();
        using var stream = await world.OpenAsync("process.Process/Start", $$"""{"process": {"cmd": "run"}, "pty": {{pty}}}""");
        if (code is not null)
        {
            Assert.Equal(code, (await stream.EndAsync()).GetProperty("error").GetProperty("code").GetString());
            return;
        }

        await stream.EventAsync("start");
        Assert.Equal((columns, rows), world.Guest.Runs.Single().Spec.Terminal!.Value);
    }

    [Fact]
    public async Task A_client_that_leaves_ends_no_process_and_reads_on_from_an_offset()
    {
        await using var world = await E2bWorld.StartAsync();
        FakeRun run;
        using (var first = await world.OpenAsync("process.Process/Start", Start))
        {
            await first.EventAsync("start");
            run = world.Guest.Runs.Single();
            run.Write(OutputStream.Stdout, "abc"u8);
            await first.EventAsync("data");
        }

        await FakeNode.UntilAsync(() => run.ReaderCount == 0);
        Assert.False(run.IsKilled);
        run.Write(OutputStream.Stderr, "def"u8);
        var select = $$$"""{"process": {"pid": {{{run.Pid}}}}}""";
        using var replayed = await world.OpenAsync("process.Process/Connect", select, ("X-Pandora-Output-From", "1"));
        await replayed.EventAsync("start");
        var piece = await replayed.EventAsync("data");
        Assert.Equal(("bc", 3), (Text(piece.GetProperty("stdout")), piece.GetProperty("offset").GetInt64()));
        Assert.Equal(6, (await replayed.EventAsync("data")).GetProperty("offset").GetInt64());
        using var later = await world.OpenAsync("process.Process/Connect", select);
        await later.EventAsync("start");
        run.Write(OutputStream.Stdout, "ghi"u8);
        var now = await later.EventAsync("data");
        Assert.Equal("ghi", Text(now.GetProperty("stdout")));
        Assert.False(now.TryGetProperty("offset", out _));
    }

    [Fact]
    public async Task Nothing_for_a_while_is_a_keepalive_and_a_sandbox_that_ends_cuts_the_stream()
    {
        await using var world = await E2bWorld.StartAsync("""{"templateID": "base", "timeout": 86400}""");
        using var stream = await world.OpenAsync("process.Process/Start", Start, ("Keepalive-Ping-Interval", "7"));
        await stream.EventAsync("start");
        var next = stream.NextAsync();
        for (var i = 0; i < 1000 && !next.IsCompleted; i++)
        {
            // The server may not have begun to wait.
            world.Api.Node.Time.Advance(TimeSpan.FromSeconds(7));
            await ((Task)next).WaitAsync(TimeSpan.FromMilliseconds(50), TimeProvider.System)
                .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        Assert.True((await next).Message.GetProperty("event").TryGetProperty("keepalive", out _));
        Assert.Equal(204, (await world.Api.SendAsync(HttpMethod.Delete, $"/e2b/sandboxes/{world.Id}")).Status);
        await Assert.ThrowsAnyAsync<IOException>(async () =>
        {
            // Keepalives may be under way. An end in order would say that the process has ended.
            while (true)
            {
                Assert.Equal(0, (await stream.NextAsync()).Flags);
            }
        });
    }

    [Theory]
    [InlineData("Authorization", "Bearer x", "unauthenticated")]
    [InlineData("Authorization", "Basic !", "unauthenticated")]
    [InlineData("Connect-Timeout-Ms", "x", "invalid_argument")]
    [InlineData("Connect-Timeout-Ms", "99999999999", "invalid_argument")]
    [InlineData("X-Pandora-Output-From", "-1", "invalid_argument")]
    public async Task A_bad_header_is_an_error_of_the_call(string name, string value, string code)
    {
        await using var world = await E2bWorld.StartAsync();
        using var request = world.Request(HttpMethod.Post, "/process.Process/Start", E2bWorld.Frame(Start), "application/connect+json");
        request.Headers.TryAddWithoutValidation(name, value);
        using var answer = await world.Api.Http.SendAsync(request);
        using var stream = new E2bStream(answer, await answer.Content.ReadAsStreamAsync());
        Assert.Equal(code, (await stream.EndAsync()).GetProperty("error").GetProperty("code").GetString());
        Assert.Empty(world.Guest.Runs);
    }

    private static string Text(JsonElement bytes) => Encoding.ASCII.GetString(bytes.GetBytesFromBase64());
}
