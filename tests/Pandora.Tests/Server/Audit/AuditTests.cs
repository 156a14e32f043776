using System.Net.WebSockets;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;
using Pandora.Server.Audit;
using Pandora.Server.Commands;
using Pandora.Server.Hosting;
using Pandora.Tests.Api;

namespace Pandora.Tests.Audit;

/// <summary>The audit of a server: each operation gives one line, with the right members.</summary>
public sealed partial class AuditTests
{
    private const string Key = "a-key-of-sixteen-or-more";

    [Fact]
    public async Task Each_operation_is_one_line()
    {
        await using var audited = await AuditedServer.StartAsync();
        var api = audited.Server;
        await FakeNode.UntilAsync(() => api.Node.Pool.WarmCount > 0);
        await using var clock = api.Node.RunClock();
        var id = await api.CreateAsync("""{"idle_timeout": 3600}""");
        await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "exit 4"}""");
        await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "timeout Killed"}""");
        await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "break"}""");
        var process = await EventStreamTests.StartAsync(api, id, """{"code": "run", "stdin": true}""");
        var run = api.Node.GuestOf(id).RunOf(process);
        run.DiesOfSignals = false;
        var path = $"/sandboxes/{id}/processes/{process}";
        await api.SendAsync(HttpMethod.Post, $"{path}/input", "abcde", "application/octet-stream");
        await api.SendAsync(HttpMethod.Post, $"{path}/input?offset=9", "abc", "application/octet-stream");
        await api.SendAsync(HttpMethod.Delete, $"{path}/input");
        await api.SendAsync(HttpMethod.Post, $"{path}/signal", """{"signal": "HUP"}""");
        run.Write("out");
        await api.SendAsync(HttpMethod.Get, $"{path}/output?from=9");
        run.EndWith(3);
        await api.SendAsync(HttpMethod.Get, $"{path}/output");
        await api.SendAsync(HttpMethod.Post, $"{path}/signal", """{"signal": "HUP"}""");
        await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/keepalive");
        await api.SendAsync(HttpMethod.Delete, $"/sandboxes/{id}");

        var lines = await audited.StopAsync();
        Assert.Equal(
            [
                $"create sandbox={id} project=default template=default warm=True outcome=ok",
                $"exec sandbox={id} project=default exit_code=4 outcome=ok",
                $"exec sandbox={id} project=default exit_code=137 outcome=timeout",
                $"exec sandbox={id} project=default outcome=guest_unreachable",
                $"process_start sandbox={id} project=default process={process} outcome=ok",
                $"process_input sandbox={id} project=default process={process} input_bytes=5 outcome=ok",
                $"process_input sandbox={id} project=default process={process} input_bytes=0 outcome=process_state",
                $"process_input sandbox={id} project=default process={process} outcome=ok",
                $"process_signal sandbox={id} project=default process={process} signal=1 outcome=ok",
                $"process_attach sandbox={id} project=default process={process} outcome=invalid_request",
                $"process_attach sandbox={id} project=default process={process} exit_code=3 outcome=ok",
                $"process_signal sandbox={id} project=default process={process} signal=1 outcome=process_state",
                $"keepalive sandbox={id} project=default outcome=ok",
                $"delete sandbox={id} project=default template=default reason=deleted execs=4 outcome=ok",
            ],
            lines.Select(Flat));
        Assert.All(lines, l => Assert.True(l.GetProperty("ms").GetDouble() >= 0));
        Assert.All(lines, l => Assert.Matches(TimePattern(), l.GetProperty("time").GetString()));
        Assert.All(lines, l => Assert.False(l.TryGetProperty("command", out _)));
        Assert.True(lines[^1].GetProperty("lived_s").GetDouble() >= 0);
    }

    [Fact]
    public async Task What_only_reads_a_state_has_no_line()
    {
        await using var audited = await AuditedServer.StartAsync();
        var api = audited.Server;
        var id = await api.CreateAsync();
        var process = await EventStreamTests.StartAsync(api, id, """{"code": "run", "terminal": {"columns": 80, "rows": 24}}""");
        var path = $"/sandboxes/{id}/processes";
        foreach (var route in new[] { "/sandboxes", $"/sandboxes/{id}", path, $"{path}/{process}", $"{path}/{process}/wait?timeout=0" })
        {
            Assert.Equal(200, (await api.SendAsync(HttpMethod.Get, route)).Status);
        }

        Assert.Equal(204, (await api.SendAsync(HttpMethod.Post, $"{path}/{process}/resize", """{"columns": 9, "rows": 9}""")).Status);
        Assert.Equal(404, (await api.SendAsync(HttpMethod.Get, $"{path}/unknown")).Status);
        Assert.Equal(404, (await api.SendAsync(HttpMethod.Get, "/sandboxes/unknown/processes")).Status);
        Assert.Equal(["create", "process_start", "end"], (await audited.StopAsync()).Select(OperationOf));
    }

    [Fact]
    public async Task What_is_refused_has_a_line_with_the_code_and_the_client()
    {
        await using var audited = await AuditedServer.StartAsync(
            new ServerOptions { ApiKeys = Key }, new EngineOptions { PoolSize = 1, MaxSandboxes = 1 }, onLoopback: true);
        var api = audited.Server;
        await FakeNode.UntilAsync(() => api.Node.Pool.WarmCount > 0);
        var headers = ("X-API-Key", Key);
        var created = await api.SendAsync(HttpMethod.Post, "/sandboxes", "{}", headers: headers);
        var id = created.Body.GetProperty("sandbox_id").GetString();
        await api.SendAsync(HttpMethod.Post, "/sandboxes", "{}", headers: headers);
        await api.SendAsync(HttpMethod.Delete, "/sandboxes/made%0Aup", headers: headers);
        await api.SendAsync(HttpMethod.Post, "/sandboxes/unknown/keepalive", headers: headers);
        await api.SendAsync(HttpMethod.Post, "/sandboxes/unknown/exec", """{"code": "a"}""", headers: headers);
        await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "a", "env": {"=": ""}}""", headers: headers);
        await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/processes/a%0Ab/signal", """{"signal": "HUP"}""", headers: headers);
        await api.SendAsync(HttpMethod.Get, $"/sandboxes/{id}/processes/unknown/output", headers: headers);
        // It does not come to an operation.
        await api.SendAsync(HttpMethod.Delete, $"/sandboxes/{id}");
        var lines = await audited.StopAsync();
        Assert.Equal(
            [
                $"create sandbox={id} project=default template=default warm=True outcome=ok",
                "create project=default outcome=sandbox_limit",
                "delete sandbox=(malformed) project=default outcome=sandbox_not_found",
                "keepalive sandbox=unknown project=default outcome=sandbox_not_found",
                "exec sandbox=unknown project=default outcome=sandbox_not_found",
                $"exec sandbox={id} project=default outcome=invalid_request",
                $"process_signal sandbox={id} project=default process=(malformed) signal=1 outcome=process_not_found",
                $"process_attach sandbox={id} project=default process=unknown outcome=process_not_found",
                $"end sandbox={id} project=default template=default reason=shutdown execs=0 outcome=ok",
            ],
            lines.Select(Flat));
        var keyId = Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(Encoding.UTF8.GetBytes(Key)))[..8];
        Assert.All(lines.SkipLast(1), l => Assert.Equal(("127.0.0.1", keyId), (
            l.GetProperty("address").GetString(), l.GetProperty("key_id").GetString())));
        Assert.All(lines.SkipLast(1), l => Assert.Equal("api-keys-1", l.GetProperty("key").GetString()));
        Assert.False(lines[^1].TryGetProperty("address", out _) || lines[^1].TryGetProperty("key_id", out _));
    }

    [Fact]
    public async Task A_streamed_command_is_recorded_at_its_end_however_it_ends()
    {
        await using var audited = await AuditedServer.StartAsync(onLoopback: true);
        var api = audited.Server;
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        await using (var events = await EventStreamTests.ExecAsync(api, id, """{"code": "run", "stdin": "abc"}"""))
        {
            await events.NextAsync("started");
            guest.Runs[^1].EndWith(7);
            await events.RestAsync();
        }

        await using (var events = await EventStreamTests.ExecAsync(api, id, """{"code": "run"}"""))
        {
            await events.NextAsync("started");
        }

        await FakeNode.UntilAsync(() => guest.Runs[^1].IsKilled);
        await using (var events = await EventStreamTests.ExecAsync(api, id, """{"code": "run"}"""))
        {
            await events.NextAsync("started");
            await api.SendAsync(HttpMethod.Delete, $"/sandboxes/{id}");
            await events.RestAsync();
        }

        var lines = (await audited.StopAsync()).Select(Flat).Where(l => l.StartsWith("exec ", StringComparison.Ordinal)).ToList();
        var runs = guest.Runs.ToList();
        Assert.Equal(
            [
                $"exec sandbox={id} project=default process={runs[0].Id} exit_code=7 outcome=ok",
                $"exec sandbox={id} project=default process={runs[1].Id} outcome=cancelled",
                $"exec sandbox={id} project=default process={runs[2].Id} outcome=sandbox_not_found",
            ],
            lines.OrderBy(l => runs.FindIndex(r => l.Contains($" process={r.Id} ", StringComparison.Ordinal))));
    }

    [Fact]
    public async Task An_attached_client_is_recorded_at_its_end_with_what_it_did()
    {
        await using var audited = await AuditedServer.StartAsync(onLoopback: true);
        var api = audited.Server;
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id, """{"code": "run", "terminal": {"columns": 80, "rows": 24}}""");
        var run = guest.RunOf(process);
        run.DiesOfSignals = false;
        using (var socket = new ClientWebSocket())
        {
            socket.Options.AddSubProtocol(ProcessEvents.WebSocketProtocol);
            var address = new UriBuilder(new Uri(api.Http.BaseAddress!, $"/sandboxes/{id}/processes/{process}/attach")) { Scheme = "ws" };
            await socket.ConnectAsync(address.Uri, default);
            await socket.SendAsync("secret"u8.ToArray().AsMemory(), WebSocketMessageType.Binary, endOfMessage: true, default);
            await socket.SendAsync("more"u8.ToArray().AsMemory(), WebSocketMessageType.Binary, endOfMessage: true, default);
            await FakeNode.UntilAsync(() => run.Input.Length == 10);
            await socket.SendAsync(
                """{"type":"signal","signal":"INT"}"""u8.ToArray().AsMemory(), WebSocketMessageType.Text, endOfMessage: true, default);
            await FakeNode.UntilAsync(() => run.Signals.Count == 1);
            await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, null, default);
        }

        await using (var output = await EventStreamTests.OutputAsync(api, id, process))
        {
            await output.NextAsync("started");
            await api.SendAsync(HttpMethod.Delete, $"/sandboxes/{id}");
            await output.RestAsync();
        }

        var lines = (await audited.StopAsync()).ToList();
        Assert.Equal(
            [
                $"process_attach sandbox={id} project=default process={process} outcome=ok",
                $"process_attach sandbox={id} project=default process={process} outcome=sandbox_not_found",
                $"process_input sandbox={id} project=default process={process} input_bytes=10 outcome=ok",
                $"process_signal sandbox={id} project=default process={process} signal=2 outcome=ok",
                $"process_start sandbox={id} project=default process={process} outcome=ok",
            ],
            lines.Select(Flat).Where(l => l.StartsWith("process_", StringComparison.Ordinal)).Order(StringComparer.Ordinal));
        Assert.All(lines, l => Assert.Equal("127.0.0.1", l.GetProperty("address").GetString()));
        Assert.DoesNotContain(lines, l => l.GetRawText().Contains("secret", StringComparison.Ordinal));
    }

    [Fact]
    public async Task The_servers_own_ends_belong_to_no_client()
    {
        await using var audited = await AuditedServer.StartAsync(
            options: new EngineOptions { PoolSize = 3, IdleTimeout = 10, MaxLifetime = 60 }, onLoopback: true);
        var api = audited.Server;
        var (died, idle, old) = (await api.CreateAsync(), await api.CreateAsync(), await api.CreateAsync("""{"idle_timeout": 60}"""));
        api.Node.MachineOf(died).Die("a test said so");
        await FakeNode.UntilAsync(() => api.Node.Sandboxes.Count == 2);
        api.Node.Time.Advance(TimeSpan.FromSeconds(11));
        await api.Node.Sandboxes.ReapAsync();
        api.Node.Time.Advance(TimeSpan.FromSeconds(60));
        await api.Node.Sandboxes.ReapAsync();
        var ends = (await audited.StopAsync()).Where(l => OperationOf(l) == "end").ToList();
        Assert.Equal(
            [(died, "died"), (idle, "idle"), (old, "lifetime")],
            ends.Select(e => (e.GetProperty("sandbox").GetString()!, e.GetProperty("reason").GetString()!)));
        Assert.All(ends, e => Assert.False(e.TryGetProperty("address", out _) || e.TryGetProperty("trace", out _)));
    }

    [Fact]
    public async Task A_sandbox_that_did_not_survive_a_restart_has_an_end()
    {
        await using var audited = await AuditedServer.StartAsync();
        var api = audited.Server;
        var (lost, kept) = (await api.CreateAsync(), await api.CreateAsync());
        await api.Node.RestartAsync(isKilled: true, () => api.Node.MachineOf(lost).Die("a test said so"));
        await FakeNode.UntilAsync(() => !api.Node.Sandboxes.IsRecovering);
        var ends = (await audited.StopAsync()).Where(l => OperationOf(l) == "end").ToList();
        Assert.Equal(
            [(lost, "default", "died"), (kept, "default", "shutdown")],
            ends.Select(e => (
                e.GetProperty("sandbox").GetString()!, e.GetProperty("project").GetString()!, e.GetProperty("reason").GetString()!)));
    }

    [Fact]
    public async Task A_claim_that_is_sent_again_is_marked()
    {
        await using var audited = await AuditedServer.StartAsync();
        for (var i = 0; i < 2; i++)
        {
            await audited.Server.SendAsync(HttpMethod.Post, "/sandboxes", "{}", headers: ("Idempotency-Key", "mine"));
        }

        var creates = (await audited.StopAsync()).Where(l => OperationOf(l) == "create").ToList();
        Assert.Equal([false, true], creates.Select(c => c.TryGetProperty("replayed", out _)));
    }

    [Fact]
    public async Task With_the_log_only_there_is_no_file()
    {
        await using var audited = await AuditedServer.StartAsync(new ServerOptions { Audit = AuditTarget.Log });
        await audited.Server.CreateAsync();
        Assert.Empty(await audited.StopAsync());
        Assert.False(Directory.Exists(audited.Folder));
    }

    [Fact]
    public async Task The_real_host_writes_it_up_to_its_end()
    {
        var data = Directory.CreateTempSubdirectory("pandora-test-").FullName;
        try
        {
            var builder = WebApplication.CreateSlimBuilder();
            builder.Logging.ClearProviders().AddPandoraLogs(LogFormat.Text).AddPandoraAudit(new ServerOptions(), data)
                .AddFilter<ConsoleLoggerProvider>(null, LogLevel.None);
            builder.Services.AddPandoraApi(new EngineOptions(), new ServerOptions(), TimeProvider.System);
            builder.Services.AddSingleton<LateLine>();
            await using (var app = builder.Build())
            {
                _ = app.Services.GetRequiredService<LateLine>();
            }

            Assert.Equal("keepalive", Assert.Single(AuditReader.Read(AuditFile.DirectoryIn(data))).Record?.Operation);
        }
        finally
        {
            Directory.Delete(data, recursive: true);
        }
    }

    internal static string? OperationOf(JsonElement line) => line.GetProperty("operation").GetString();

    // Without the members that differ from run to run, and those of the client.
    private static string Flat(JsonElement line)
    {
        string[] others = ["time", "operation", "outcome", "ms", "lived_s", "trace", "address", "key", "key_id"];
        var members = line.EnumerateObject().Where(p => !others.Contains(p.Name)).Select(p => $"{p.Name}={p.Value}");
        return string.Join(' ', [OperationOf(line), .. members, $"outcome={line.GetProperty("outcome").GetString()}"]);
    }

    // As an engine that ends because the server could not listen: the first line comes while the services are disposed of.
    private sealed class LateLine(ILoggerFactory loggers) : IDisposable
    {
        private readonly ILogger _logger = loggers.CreateLogger(AuditLine.Category);

        public void Dispose() =>
            _logger.Log(LogLevel.Information, default, new AuditLine(AuditOperation.Keepalive), null, (l, _) => $"{l}");
    }

    [GeneratedRegex(@"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\z")]
    private static partial Regex TimePattern();
}
