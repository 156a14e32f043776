using System.Collections.Concurrent;
using ModelContextProtocol;
using ModelContextProtocol.Protocol;
using Pandora.Cli.Mcp;
using Pandora.Fakes;

namespace Pandora.Tests.Cli.Mcp;

/// <summary>The bridge's own sandbox, and what it hands on.</summary>
public sealed class BridgeTests
{
    [Fact]
    public async Task Calls_that_name_no_sandbox_share_one_which_ends_with_the_client()
    {
        await using var world = await BridgeWorld.StartAsync(new OwnSandboxOptions(IdleTimeout: 120, Egress: "none"));
        Assert.Empty(world.Sandboxes);
        var answers = await Task.WhenAll(Enumerable.Range(0, 8).Select(i => world.DoAsync("run", new { command = $"echo {i}" })));
        var own = Assert.Single(answers.Select(a => a.GetProperty("sandbox").GetString()).Distinct());
        Assert.Equal([own!], world.Sandboxes);
        Assert.Single(answers, a => a.GetProperty("new_sandbox").GetBoolean());
        Assert.Equal(120, world.Server.Node.Sandboxes.List().Single().Lifetime.Idle.TotalSeconds);
        var other = (await world.DoAsync("sandbox_create", new { })).GetProperty("sandbox").GetString();
        Assert.Equal(other, (await world.DoAsync("run", new { command = "echo", sandbox = other })).GetProperty("sandbox").GetString());
        Assert.Equal(2, world.Sandboxes.Count);
        // Another client's lives on.
        var foreign = await world.Server.CreateAsync();
        await world.DoAsync("run", new { command = "echo", sandbox = foreign });
        await world.LeaveAsync();
        Assert.Equal([foreign], world.Sandboxes);
    }

    [Fact]
    public async Task A_signal_ends_its_sandboxes_too()
    {
        await using var world = await BridgeWorld.StartAsync();
        await world.DoAsync("run", new { command = "echo" });
        await world.SignalAsync();
        Assert.Empty(world.Sandboxes);
    }

    [Fact]
    public async Task An_own_sandbox_that_has_ended_is_said_once_and_then_there_is_a_new_one()
    {
        await using var world = await BridgeWorld.StartAsync();
        var own = (await world.DoAsync("run", new { command = "echo" })).GetProperty("sandbox").GetString()!;
        await world.Server.SendAsync(HttpMethod.Delete, $"/sandboxes/{own}");
        var lost = await world.CallAsync("run", new { command = "echo" });
        Assert.Contains("its files and processes are gone", ((TextContentBlock)lost.Content[0]).Text, StringComparison.Ordinal);
        var next = await world.DoAsync("run", new { command = "echo" });
        Assert.NotEqual(own, next.GetProperty("sandbox").GetString());
        Assert.True(next.GetProperty("new_sandbox").GetBoolean());
    }

    [Fact]
    public async Task A_wrong_id_that_begins_like_the_own_one_leaves_the_own_one()
    {
        await using var world = await BridgeWorld.StartAsync();
        var own = (await world.DoAsync("run", new { command = "echo" })).GetProperty("sandbox").GetString()!;
        var lost = await world.CallAsync("run", new { command = "echo", sandbox = $"{own}/x" });
        Assert.Equal("sandbox_not_found", ToolResults.CodeOf(lost));
        Assert.Equal(own, (await world.DoAsync("run", new { command = "echo" })).GetProperty("sandbox").GetString());
        await world.LeaveAsync();
        Assert.Empty(world.Sandboxes);
    }

    [Fact]
    public async Task The_list_says_that_the_sandbox_may_be_left_out()
    {
        await using var world = await BridgeWorld.StartAsync();
        var tools = (await world.Client.ListToolsAsync()).ToDictionary(t => t.Name, t => t.ProtocolTool.InputSchema);
        Assert.Equal(14, tools.Count);
        Assert.Contains(
            "this session's own", tools["run"].GetProperty("properties").GetProperty("sandbox").GetProperty("description").GetString(),
            StringComparison.Ordinal);
        Assert.Equal(["port"], tools["port_link"].GetProperty("required").EnumerateArray().Select(r => r.GetString()));
        Assert.Equal(["sandbox"], tools["sandbox_end"].GetProperty("required").EnumerateArray().Select(r => r.GetString()));
        var link = await world.DoAsync("port_link", new { port = 80 });
        Assert.Equal(world.Sandboxes, [link.GetProperty("sandbox").GetString()!]);
    }

    [Fact]
    public async Task Bad_arguments_are_the_servers_to_refuse_and_make_no_sandbox_when_they_name_one()
    {
        await using var world = await BridgeWorld.StartAsync();
        var result = await world.CallAsync("run", new { command = "echo", sandbox = 5 });
        Assert.StartsWith("invalid_request: sandbox: ", ((TextContentBlock)result.Content[0]).Text, StringComparison.Ordinal);
        Assert.Empty(world.Sandboxes);
        await Assert.ThrowsAsync<McpProtocolException>(() => world.CallAsync("nothing", new { }));
        await Assert.ThrowsAsync<McpProtocolException>(() => world.CallAsync("upload", new { from = "a", to = "b" }));
    }

    [Fact]
    public async Task A_first_call_that_fails_does_not_hide_that_the_sandbox_is_new()
    {
        await using var world = await BridgeWorld.StartAsync();
        var refused = await world.CallAsync("run", new { comand = "echo" });
        Assert.Equal("invalid_request", ToolResults.CodeOf(refused));
        Assert.True((await world.DoAsync("run", new { command = "echo" })).GetProperty("new_sandbox").GetBoolean());
        Assert.False((await world.DoAsync("run", new { command = "echo" })).GetProperty("new_sandbox").GetBoolean());
        Assert.Single(world.Sandboxes);
    }

    [Fact]
    public async Task A_cancelled_call_kills_the_command()
    {
        await using var world = await BridgeWorld.StartAsync();
        using var cancelling = new CancellationTokenSource();
        var calling = world.CallAsync("run", new { command = "run" }, cancelling.Token);
        FakeRun? run = null;
        await FakeNode.UntilAsync(
            () => (run = world.Sandboxes.SelectMany(s => world.Server.Node.GuestOf(s).Runs).SingleOrDefault()) is not null);
        await cancelling.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => calling);
        await FakeNode.UntilAsync(() => run!.IsKilled);
        // The own sandbox stays.
        await world.DoAsync("run", new { command = "echo" });
        Assert.Single(world.Sandboxes);
    }

    [Fact]
    public async Task Progress_is_handed_on_in_its_order()
    {
        await using var world = await BridgeWorld.StartAsync();
        var heard = new ConcurrentQueue<string>();
        var calling = world.Client.CallToolAsync("run", new Dictionary<string, object?> { ["command"] = "run" }, new Heard(heard));
        FakeRun? run = null;
        await FakeNode.UntilAsync(
            () => (run = world.Sandboxes.SelectMany(s => world.Server.Node.GuestOf(s).Runs).SingleOrDefault()) is not null);
        run!.Write("one\n");
        await FakeNode.UntilAsync(() => heard.Contains("guest: one"));
        run.EndWith(0);
        await calling;
        Assert.Equal(["guest: one"], heard);
    }

    [Fact]
    public async Task A_server_that_went_away_is_an_answer()
    {
        await using var world = await BridgeWorld.StartAsync();
        await world.DoAsync("sandbox_list", new { });
        await world.Server.StopAsync();
        var result = await world.CallAsync("run", new { command = "echo" });
        Assert.True(result.IsError);
        Assert.Equal("unreachable", ToolResults.CodeOf(result));
        Assert.Contains("'./pandora up'", ((TextContentBlock)result.Content[0]).Text, StringComparison.Ordinal);
    }

    private sealed class Heard(ConcurrentQueue<string> messages) : IProgress<ProgressNotificationValue>
    {
        public void Report(ProgressNotificationValue value) => messages.Enqueue(value.Message!);
    }
}
