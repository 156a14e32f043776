using System.Text.Json;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Api;

/// <summary>Answers to repeated claims, to too many claims, and while the server starts or stops.</summary>
public sealed class ResilienceApiTests
{
    [Fact]
    public async Task A_repeated_claim_with_the_same_key_gets_the_same_sandbox()
    {
        await using var api = await FakeServer.StartAsync();
        var first = await CreateAsync(api, "key-1");
        var again = await CreateAsync(api, "key-1");
        Assert.Equal((201, 201), (first.Status, again.Status));
        Assert.Equal(IdOf(first.Body), IdOf(again.Body));
        Assert.False(first.Response.Headers.Contains("Idempotency-Replayed"));
        Assert.Equal("true", again.Response.Headers.GetValues("Idempotency-Replayed").Single());
        Assert.NotEqual(IdOf(first.Body), IdOf((await CreateAsync(api, "key-2")).Body));
        Assert.Equal(2, api.Node.Sandboxes.Count);
    }

    [Fact]
    public async Task Concurrent_claims_with_one_key_create_one_sandbox()
    {
        await using var api = await FakeServer.StartAsync();
        var all = await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => CreateAsync(api, "key")));
        Assert.Single(all.Select(a => IdOf(a.Body)).Distinct());
        Assert.Equal(1, api.Node.Sandboxes.Count);
    }

    [Fact]
    public async Task A_key_of_another_body_is_refused_and_the_key_of_an_ended_sandbox_is_a_404()
    {
        await using var api = await FakeServer.StartAsync();
        var first = await CreateAsync(api, "key");
        var other = await CreateAsync(api, "key", """{"egress": "none"}""");
        Assert.Equal((422, "idempotency_mismatch"), (other.Status, other.Body.GetProperty("code").GetString()));
        Assert.True(other.Body.GetProperty("errors").TryGetProperty("Idempotency-Key", out _));
        await api.SendAsync(HttpMethod.Delete, $"/sandboxes/{IdOf(first.Body)}");
        var ended = await CreateAsync(api, "key");
        Assert.Equal((404, "sandbox_not_found"), (ended.Status, ended.Body.GetProperty("code").GetString()));
        Assert.Equal(0, api.Node.Sandboxes.Count);
    }

    [Fact]
    public async Task A_failed_claim_can_be_repeated_with_its_key()
    {
        await using var api = await FakeServer.StartAsync(options: new EngineOptions { PoolSize = 1, MaxSandboxes = 1 });
        var only = await api.CreateAsync();
        Assert.Equal(503, (await CreateAsync(api, "key")).Status);
        await api.SendAsync(HttpMethod.Delete, $"/sandboxes/{only}");
        Assert.Equal(201, (await CreateAsync(api, "key")).Status);
    }

    [Theory]
    [InlineData(256)]
    [InlineData(0)]
    public async Task A_key_of_a_wrong_length_is_refused_by_name(int length)
    {
        await using var api = await FakeServer.StartAsync();
        var refused = await CreateAsync(api, new string('k', length));
        // HTTP treats an empty header as none.
        Assert.Equal(length == 0 ? 201 : 400, refused.Status);
        Assert.True(length == 0 || refused.Body.GetProperty("errors").TryGetProperty("Idempotency-Key", out _));
    }

    [Fact]
    public async Task A_claim_over_the_limit_of_waiting_claims_is_refused_at_once()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0, MaxSandboxes = 50, MaxWaiting = 2 }, bootsAreFree: false);
        var waiting = Enumerable.Range(0, 2).Select(_ => node.Sandboxes.CreateAsync(new SandboxRequest(), default)).ToList();
        await FakeNode.UntilAsync(() => node.Pool.WaitingCount == 2);
        Assert.Equal(
            PandoraError.Overloaded,
            (await Assert.ThrowsAsync<PandoraException>(() => node.Sandboxes.CreateAsync(new SandboxRequest(), default))).Error);
        node.AllowBoots(2);
        await Task.WhenAll(waiting);
        Assert.Equal(2, node.Sandboxes.Count);
    }

    [Fact]
    public async Task The_lifetime_limit_ends_a_busy_sandbox()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1, MaxLifetime = 60 });
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox;
        var running = node.StartAsync(sandbox.Id, new() { Code = "hang" }, default);
        await node.GuestOf(sandbox.Id).Hanging.Task;
        node.Time.Advance(TimeSpan.FromSeconds(59));
        await node.Sandboxes.ReapAsync();
        Assert.Null(sandbox.End);
        // The age counts from the creation of the sandbox.
        node.Time.Advance(TimeSpan.FromSeconds(1));
        await node.Sandboxes.ReapAsync();
        Assert.Equal(EndReason.Lifetime, sandbox.End!.Reason);
        await Assert.ThrowsAsync<PandoraException>(() => running);
    }

    [Fact]
    public async Task A_restart_keeps_the_age_of_a_sandbox()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1, MaxLifetime = 60, IdleTimeout = 600 });
        var id = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox.Id;
        node.Time.Advance(TimeSpan.FromSeconds(40));
        await node.RestartAsync(isKilled: true);
        Assert.Equal(40, node.Sandboxes.Get(id).Age.TotalSeconds, precision: 1);
        Assert.Equal(0, node.Sandboxes.Get(id).Idle.TotalSeconds, precision: 1);
        node.Time.Advance(TimeSpan.FromSeconds(20));
        await node.Sandboxes.ReapAsync();
        Assert.Throws<PandoraException>(() => node.Sandboxes.Get(id));
    }

    [Fact]
    public async Task A_detach_interrupts_long_commands_and_refuses_new_requests()
    {
        await using var node = new FakeNode();
        var id = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox.Id;
        var running = node.StartAsync(id, new() { Code = "hang" }, default);
        await node.GuestOf(id).Hanging.Task;
        await using var clock = node.RunClock();
        await node.Sandboxes.DetachAsync(TimeSpan.FromSeconds(1));
        Assert.Equal(PandoraError.Interrupted, (await Assert.ThrowsAsync<PandoraException>(() => running)).Error);
        Assert.Equal(
            PandoraError.ShuttingDown,
            (await Assert.ThrowsAsync<PandoraException>(() => node.StartAsync(id, new() { Code = "exit 0" }, default))).Error);
        Assert.Equal(
            PandoraError.ShuttingDown,
            (await Assert.ThrowsAsync<PandoraException>(() => node.Sandboxes.CreateAsync(new SandboxRequest(), default))).Error);
        Assert.True(node.MachineOf(id).IsRunning);
    }

    [Fact]
    public async Task A_recovering_server_answers_503_with_a_time_to_wait()
    {
        await using var api = await FakeServer.StartAsync(isRecovering: true);
        foreach (
            var (method, path) in new[]
            {
                (HttpMethod.Post, "/sandboxes"),
                (HttpMethod.Get, "/sandboxes"),
                (HttpMethod.Get, "/sandboxes/abc"),
                (HttpMethod.Delete, "/sandboxes/abc"),
                (HttpMethod.Post, "/sandboxes/abc/keepalive"),
            })
        {
            var (status, body, response) = await api.SendAsync(method, path);
            Assert.Equal((503, "recovering", "1"), (status, body.GetProperty("code").GetString(), response.Headers.RetryAfter?.ToString()));
        }

        Assert.Equal(
            (503, "recovering"),
            ((await api.SendAsync(HttpMethod.Post, "/sandboxes/abc/exec", """{"code": "exit 0"}""")).Status, "recovering"));
        Assert.Equal("recovering", (await api.SendAsync(HttpMethod.Get, "/health")).Body.GetProperty("status").GetString());
        api.Node.Sandboxes.Open();
        Assert.Equal(201, (await api.SendAsync(HttpMethod.Post, "/sandboxes")).Status);
    }

    private static Task<(int Status, JsonElement Body, HttpResponseMessage Response)> CreateAsync(
        FakeServer api,
        string key,
        string body = "{}") => api.SendAsync(HttpMethod.Post, "/sandboxes", body, headers: ("Idempotency-Key", key));

    private static string? IdOf(JsonElement body) => body.GetProperty("sandbox_id").GetString();
}
