using System.Net;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Pandora.Fakes;
using Pandora.Server.Auth;
using Pandora.Server.Hosting;

namespace Pandora.Tests.Telemetry;

public sealed class LogTests
{
    [Fact]
    public async Task Each_operation_is_one_audit_line_without_the_code()
    {
        using var log = new KeptLog();
        await using var server = await FakeServer.StartAsync(loggers: log);
        await FakeNode.UntilAsync(() => server.Node.Pool.WarmCount > 0);
        await using var clock = server.Node.RunClock();
        var id = await server.CreateAsync();
        await server.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "echo hunter2", "stdin": "hunter3"}""");
        await server.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "exit 4"}""");
        await server.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "break"}""");
        await server.SendAsync(HttpMethod.Delete, $"/sandboxes/{id}");
        await server.SendAsync(HttpMethod.Delete, "/sandboxes/made%0Aup");
        var audit = log.Lines.Where(l => l.Category == "Pandora.Audit").Select(l => l.Text).ToList();
        Assert.Collection(
            audit,
            l => Assert.Matches($"^create {id} outcome=ok project=default template=default warm=True ms=[0-9.]+$", l),
            l => Assert.Matches($"^exec {id} outcome=ok project=default exit_code=0 ms=[0-9.]+$", l),
            l => Assert.Matches($"^exec {id} outcome=ok project=default exit_code=4 ms=[0-9.]+$", l),
            l => Assert.Matches($"^exec {id} outcome=guest_unreachable project=default ms=[0-9.]+$", l),
            l => Assert.Matches(
                $"^delete {id} outcome=ok project=default template=default reason=deleted execs=3 lived_s=[0-9.]+ ms=[0-9.]+$", l),
            l => Assert.Matches(@"^delete \(malformed\) outcome=sandbox_not_found ms=[0-9.]+$", l));
        Assert.DoesNotContain(log.Lines, l => l.Text.Contains("hunter", StringComparison.Ordinal));
    }

    [Fact]
    public void Logged_text_cannot_forge_a_line()
    {
        using var writer = new StringWriter();
        var time = new FakeTimeProvider(new DateTimeOffset(2026, 1, 2, 3, 4, 5, 678, TimeSpan.Zero));
        var scopes = new LoggerExternalScopeProvider();
        using var scope = scopes.Push(new ClientScope(
            IPAddress.Parse("192.0.2.1"), new Caller { KeyName = "ci\nforged", KeyId = "0a1b2c3d", Project = "web" }));
        using var trace = scopes.Push(new Dictionary<string, object?> { ["TraceId"] = "4bf9", ["RequestPath"] = "/secret" });
        var entry = new LogEntry<string>(
            LogLevel.Warning, "Pandora.Audit", default, "died: \x1b[2J\r\n22:00:00.000 info forged\tline", null, (s, _) => s);
        new TextLogFormatter(time).Write(entry, scopes, writer);
        Assert.Equal(
            "03:04:05.678 warn Audit: died: ?[2J\n    22:00:00.000 info forged\tline client=192.0.2.1 "
                + "key=ci\n    forged key_id=0a1b2c3d trace=4bf9\n",
            writer.ToString());
    }

    [Fact]
    public void A_scope_leaves_out_what_is_not_known()
    {
        var caller = new Caller();
        Assert.Equal("Project:default", $"{new ClientScope(null, caller)}");
        (caller.KeyName, caller.KeyId, caller.Project) = ("ci", "0a1b2c3d", "web");
        var scope = new ClientScope(IPAddress.Loopback, caller);
        Assert.Equal("Client:127.0.0.1 Key:ci KeyId:0a1b2c3d Project:web", $"{scope}");
        Assert.Equal(scope.ToList(), Enumerable.Range(0, scope.Count).Select(i => scope[i]));
    }
}
