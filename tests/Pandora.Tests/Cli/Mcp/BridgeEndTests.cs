using System.Text.Json;
using ModelContextProtocol;
using ModelContextProtocol.Protocol;
using Pandora.Cli.Mcp;
using Pandora.Client;
using Pandora.Fakes;

namespace Pandora.Tests.Cli.Mcp;

/// <summary>What ends: the host, a call, the connection to the server, the own sandbox.</summary>
public sealed class BridgeEndTests
{
    [Fact]
    public async Task A_host_that_leaves_ends_the_calls_that_run()
    {
        await using var world = await BridgeWorld.StartAsync();
        var calling = world.CallAsync("run", new { command = "run" });
        await FakeNode.UntilAsync(() => world.Sandboxes.SelectMany(s => world.Server.Node.GuestOf(s).Runs).Any());
        // The call itself would wait for 45 s. The command ends by a kill, or with its sandbox.
        await world.LeaveAsync();
        Assert.Empty(world.Sandboxes);
        await world.Client.DisposeAsync();
        await Assert.ThrowsAnyAsync<Exception>(() => calling);
    }

    [Fact]
    public async Task A_program_whose_output_is_closed_ends_and_leaves_nothing()
    {
        await using var server = await FakeServer.StartAsync(onLoopback: true);
        using var process = CliProcess.Start(
            ["mcp", "--url", server.Http.BaseAddress!.ToString()], executable: CliProcess.Built);
        async Task SendAsync(int id, string method, object parameters)
        {
            await process.StandardInput.WriteLineAsync(JsonSerializer.Serialize(new { jsonrpc = "2.0", id, method, @params = parameters }));
            await process.StandardInput.FlushAsync();
        }

        await SendAsync(1, "initialize", new
        {
            protocolVersion = "2025-06-18",
            capabilities = new { },
            clientInfo = new { name = "test", version = "1" },
        });
        Assert.Contains("\"id\":1", await process.StandardOutput.ReadLineAsync(), StringComparison.Ordinal);
        process.StandardOutput.Close();
        await SendAsync(2, "tools/call", new { name = "run", arguments = new { command = "echo" } });
        await process.WaitForExitAsync(TestContext.Current.CancellationToken)
            .WaitAsync(CliProcess.Limit, TestContext.Current.CancellationToken);
        Assert.Equal(0, process.ExitCode);
        Assert.Empty(await process.StandardError.ReadToEndAsync());
        Assert.Empty(server.Node.Sandboxes.List());
    }

    [Fact]
    public async Task A_program_without_a_server_ends_at_once_and_names_the_command()
    {
        var (exitCode, output, error) = await CliProcess.RunAsync(["mcp", "--url", "http://127.0.0.1:9"]);
        Assert.Equal((125, ""), (exitCode, output));
        Assert.Contains("'./pandora up' starts one", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_server_that_is_away_is_said_in_words_and_used_again_when_it_is_back()
    {
        await using var world = await BridgeWorld.StartAsync();
        // From the first call on.
        world.Line.Fault = new HttpRequestException(HttpRequestError.ConnectionError, "refused");
        Assert.StartsWith("unreachable: no server answers", await ErrorAsync(world), StringComparison.Ordinal);
        var list = await Assert.ThrowsAnyAsync<McpException>(async () => await world.Client.ListToolsAsync());
        Assert.Contains("./pandora up", list.Message, StringComparison.Ordinal);
        world.Line.Fault = null;
        await world.DoAsync("run", new { command = "echo" });
        world.Line.Fault = new HttpIOException(HttpRequestError.ResponseEnded, "ended");
        Assert.Contains("is not known", await ErrorAsync(world), StringComparison.Ordinal);
        world.Line.Fault = null;
        await world.DoAsync("run", new { command = "echo" });
        Assert.Single(world.Sandboxes);
    }

    [Theory]
    [InlineData(401, "unauthorized: ")]
    [InlineData(404, "unexpected_answer: ")]
    [InlineData(503, "unexpected_answer: ")]
    public async Task A_server_that_refuses_is_said_in_words(int status, string words)
    {
        await using var world = await BridgeWorld.StartAsync();
        world.Line.Fault = new HttpRequestException("refused", null, (System.Net.HttpStatusCode)status);
        Assert.StartsWith(words, await ErrorAsync(world), StringComparison.Ordinal);
        world.Line.Fault = null;
    }

    [Fact]
    public async Task A_cancelled_first_call_does_not_lose_the_sandbox_that_is_made_for_it()
    {
        await using var world = await BridgeWorld.StartAsync();
        await world.Client.ListToolsAsync();
        var held = new TaskCompletionSource();
        world.Line.Open = held.Task;
        using var cancelling = new CancellationTokenSource();
        var calling = world.CallAsync("run", new { command = "echo" }, cancelling.Token);
        await FakeNode.UntilAsync(() => world.Sandboxes.Count == 1);
        await cancelling.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => calling);
        held.SetResult();
        var next = await world.DoAsync("run", new { command = "echo" });
        Assert.Equal([next.GetProperty("sandbox").GetString()!], world.Sandboxes);
    }

    [Theory]
    [InlineData("run", """{"command": "echo"}""")]
    [InlineData("sandbox_create", "{}")]
    public async Task A_host_that_leaves_while_a_sandbox_is_made_leaves_none(string tool, string arguments)
    {
        await using var world = await BridgeWorld.StartAsync();
        await world.Client.ListToolsAsync();
        var held = new TaskCompletionSource();
        world.Line.Open = held.Task;
        var calling = world.CallAsync(tool, JsonDocument.Parse(arguments).RootElement);
        await FakeNode.UntilAsync(() => world.Sandboxes.Count == 1);
        var leaving = world.LeaveAsync();
        held.SetResult();
        await leaving;
        Assert.Empty(world.Sandboxes);
        await world.Client.DisposeAsync();
        await Assert.ThrowsAnyAsync<Exception>(() => calling);
    }

    [Fact]
    public async Task A_sandbox_of_which_the_agent_does_not_hear_ends()
    {
        await using var world = await BridgeWorld.StartAsync();
        using var pandora = new PandoraClient(world.Server.Http, new PandoraClientOptions { KeepAlive = false });
        await using var upstream = new Upstream(pandora.Api);
        await using var sandboxes = new BridgeSandboxes(pandora.Api, upstream, new OwnSandboxOptions(), world.Server.Node.Time);
        await upstream.ListAsync(default);
        var held = new TaskCompletionSource();
        world.Line.Open = held.Task;
        using var cancelling = new CancellationTokenSource();
        var creating = sandboxes.CreateAsync(new Dictionary<string, object?>(), progress: null, cancelling.Token);
        await FakeNode.UntilAsync(() => world.Sandboxes.Count == 1);
        await cancelling.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => creating);
        held.SetResult();
        await FakeNode.UntilAsync(() => world.Sandboxes.Count == 0);
    }

    [Fact]
    public async Task Only_of_the_own_sandbox_it_is_said_that_it_was_the_own()
    {
        await using var world = await BridgeWorld.StartAsync();
        var own = (await world.DoAsync("run", new { command = "echo" })).GetProperty("sandbox").GetString()!;
        await world.Server.SendAsync(HttpMethod.Delete, $"/sandboxes/{own}");
        Assert.StartsWith("sandbox_not_found: this session's own sandbox", await ErrorAsync(world), StringComparison.Ordinal);
        Assert.StartsWith(
            $"sandbox_not_found: sandbox '{own}'", TextOf(await world.CallAsync("run", new { command = "echo", sandbox = own })),
            StringComparison.Ordinal);
        // An error of another kind stays the server's.
        var other = await world.CallAsync("run", new { command = "echo", wait = 100 });
        Assert.StartsWith("invalid_request: wait: ", TextOf(other), StringComparison.Ordinal);
    }

    private static async Task<string> ErrorAsync(BridgeWorld world)
    {
        var result = await world.CallAsync("run", new { command = "echo" });
        Assert.True(result.IsError);
        return TextOf(result);
    }

    private static string TextOf(CallToolResult result) => ((TextContentBlock)result.Content[0]).Text;
}
