using System.Text.Json;
using ModelContextProtocol;
using ModelContextProtocol.Protocol;
using Pandora.Cli.Mcp;
using Pandora.Fakes;

namespace Pandora.Tests.Cli.Mcp;

/// <summary>How long the bridge may take: for an answer, and to end what it made.</summary>
public sealed class BridgeLimitTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_server_that_hangs_does_not_hold_a_call_longer_than_clients_wait(bool hasOwn)
    {
        await using var world = await BridgeWorld.StartAsync();
        await (hasOwn ? world.DoAsync("run", new { command = "echo" }) : Task.FromResult(default(JsonElement)));
        var held = new TaskCompletionSource();
        world.Line.Open = held.Task;
        var time = world.Server.Node.Time;
        var (start, calling) = (time.GetTimestamp(), world.CallAsync("run", new { command = "echo" }));
        await using (world.Server.Node.RunClock())
        {
            var result = await calling;
            Assert.Equal("timeout", ToolResults.CodeOf(result));
            Assert.InRange(time.GetElapsedTime(start).TotalSeconds, 49, 90);
        }

        held.SetResult();
        // The client has not heard of a sandbox that was ready too late.
        var next = await world.DoAsync("run", new { command = "echo" });
        Assert.Equal(!hasOwn, next.GetProperty("new_sandbox").GetBoolean());
        Assert.False((await world.DoAsync("run", new { command = "echo" })).GetProperty("new_sandbox").GetBoolean());
        Assert.Single(world.Sandboxes);
    }

    [Fact]
    public async Task A_sandbox_whose_answer_is_lost_is_not_waited_for_by_all_later_calls()
    {
        await using var world = await BridgeWorld.StartAsync();
        await world.Client.ListToolsAsync();
        world.Line.Open = new TaskCompletionSource().Task;
        var (time, start) = (world.Server.Node.Time, world.Server.Node.Time.GetTimestamp());
        await using (world.Server.Node.RunClock())
        {
            Assert.Equal("timeout", ToolResults.CodeOf(await world.CallAsync("run", new { command = "echo" })));
            world.Line.Open = Task.CompletedTask;
            await FakeNode.UntilAsync(() => time.GetElapsedTime(start).TotalSeconds > 65);
        }

        await world.DoAsync("run", new { command = "echo" });
    }

    [Fact]
    public async Task A_server_that_hangs_does_not_hold_the_list()
    {
        await using var world = await BridgeWorld.StartAsync();
        await world.Client.ListToolsAsync();
        var held = new TaskCompletionSource();
        world.Line.Open = held.Task;
        await using (world.Server.Node.RunClock())
        {
            var error = await Assert.ThrowsAnyAsync<McpException>(async () => await world.Client.ListToolsAsync());
            Assert.Contains("timeout: ", error.Message, StringComparison.Ordinal);
        }

        held.SetResult();
        await world.Client.ListToolsAsync();
    }

    [Fact]
    public async Task What_the_own_sandbox_takes_is_taken_from_the_wait_of_its_first_command()
    {
        await using var world = await BridgeWorld.StartAsync();
        await world.Client.ListToolsAsync();
        var held = new TaskCompletionSource();
        world.Line.Open = held.Task;
        var time = world.Server.Node.Time;
        var (start, calling) = (time.GetTimestamp(), world.CallAsync("run", new { command = "run" }));
        await FakeNode.UntilAsync(() => world.Sandboxes.Count == 1);
        time.Advance(TimeSpan.FromSeconds(30));
        held.SetResult();
        await FakeNode.UntilAsync(() => world.Server.Node.GuestOf(world.Sandboxes[0]).Runs.Count == 1);
        await using var clock = world.Server.Node.RunClock();
        var result = await calling;
        var answer = result.StructuredContent!.Value;
        Assert.Equal(("running", "time"), (answer.GetProperty("state").GetString(), answer.GetProperty("reason").GetString()));
        Assert.InRange(time.GetElapsedTime(start).TotalSeconds, 44, 70);
        Assert.EndsWith($"; new sandbox {world.Sandboxes[0]}", ((TextContentBlock)result.Content[0]).Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_host_that_leaves_ends_what_was_made_while_another_sandbox_is_still_being_made()
    {
        await using var world = await BridgeWorld.StartAsync();
        var made = (await world.DoAsync("sandbox_create", new { })).GetProperty("sandbox").GetString()!;
        var held = new TaskCompletionSource();
        world.Line.Open = held.Task;
        var calling = world.CallAsync("run", new { command = "echo" });
        await FakeNode.UntilAsync(() => world.Sandboxes.Count == 2);
        var leaving = world.LeaveAsync();
        // Before any answer comes.
        await FakeNode.UntilAsync(() => !world.Sandboxes.Contains(made));
        held.SetResult();
        await leaving;
        await FakeNode.UntilAsync(() => world.Sandboxes.Count == 0);
        await world.Client.DisposeAsync();
        await Assert.ThrowsAnyAsync<Exception>(() => calling);
    }

    [Fact]
    public async Task An_option_that_the_server_refuses_is_named()
    {
        await using var world = await BridgeWorld.StartAsync(new OwnSandboxOptions(Template: "none-such"));
        var result = await world.CallAsync("run", new { command = "echo" });
        Assert.Equal("invalid_request", ToolResults.CodeOf(result));
        var text = ((TextContentBlock)result.Content[0]).Text;
        Assert.Contains("as your user started './pandora mcp': --template (invalid_request: template: ", text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--egress", "everything", "--egress must be internet or none")]
    [InlineData("--idle-timeout", "5s", "--idle-timeout must be at least 10s")]
    public async Task An_option_that_cannot_be_is_refused_at_the_start(string option, string value, string says)
    {
        var (exitCode, output, error) = await CliProcess.RunAsync(["mcp", option, value, "--url", "http://127.0.0.1:9"]);
        Assert.Equal((125, ""), (exitCode, output));
        Assert.Contains(says, error, StringComparison.Ordinal);
    }
}
