using System.Diagnostics.CodeAnalysis;
using System.IO.Pipelines;
using System.Text.Json;
using ModelContextProtocol.Client;
using ModelContextProtocol.Protocol;
using Pandora.Cli.Mcp;
using Pandora.Client;
using Pandora.Fakes;

namespace Pandora.Tests.Cli.Mcp;

/// <summary>A bridge between a client on two pipes and a fake server.</summary>
internal sealed class BridgeWorld : IAsyncDisposable
{
    private readonly Pipe _toBridge = new(), _toClient = new();
    private readonly CancellationTokenSource _signal = new();
    private readonly PandoraClient _pandora;
    private Task _serving = Task.CompletedTask;

    private BridgeWorld(FakeServer server, Line line)
    {
        (Server, Line) = (server, line);
        _pandora = new PandoraClient(server.Http, new PandoraClientOptions { KeepAlive = false });
    }

    public FakeServer Server { get; }

    public Line Line { get; }

    public McpClient Client { get; private set; } = null!;

    public IReadOnlyList<string> Sandboxes => [.. Server.Node.Sandboxes.List().Select(s => s.Id)];

    [SuppressMessage("Reliability", "CA2000", Justification = "The server's client disposes of the line.")]
    public static async Task<BridgeWorld> StartAsync(OwnSandboxOptions? own = null, string? allowed = null)
    {
        var line = new Line();
        var world = new BridgeWorld(
            await FakeServer.StartAsync(onLoopback: true, client: url => new HttpClient(line) { BaseAddress = url }), line);
        world._serving = world.ServeAsync(own ?? new OwnSandboxOptions(), allowed is null ? [] : [allowed]);
        world.Client = await McpClient.CreateAsync(
            new StreamClientTransport(world._toBridge.Writer.AsStream(), world._toClient.Reader.AsStream()));
        return world;
    }

    public async Task<CallToolResult> CallAsync(string tool, object arguments, CancellationToken cancellationToken = default) =>
        await Client.CallToolAsync(
            tool, JsonSerializer.SerializeToElement(arguments).EnumerateObject().ToDictionary(p => p.Name, p => (object?)p.Value),
            cancellationToken: cancellationToken);

    /// <summary>Calls a tool that is to succeed.</summary>
    public async Task<JsonElement> DoAsync(string tool, object arguments)
    {
        var result = await CallAsync(tool, arguments);
        Assert.True(result.IsError is not true, ((TextContentBlock)result.Content[0]).Text);
        return result.StructuredContent!.Value;
    }

    /// <summary>Ends the client's input, and waits for the bridge's end.</summary>
    public async Task LeaveAsync()
    {
        await _toBridge.Writer.CompleteAsync();
        await _serving.WaitAsync(TimeSpan.FromMinutes(1));
    }

    /// <summary>Ends the bridge as a signal does, and waits for its end.</summary>
    public async Task SignalAsync()
    {
        await _signal.CancelAsync();
        await _serving;
    }

    public async ValueTask DisposeAsync()
    {
        await LeaveAsync();
        await Client.DisposeAsync();
        _pandora.Dispose();
        _signal.Dispose();
        await Server.DisposeAsync();
    }

    private async Task ServeAsync(OwnSandboxOptions own, string[] allowed)
    {
        await using var upstream = new Upstream(_pandora.Api);
        await using var sandboxes = new BridgeSandboxes(_pandora.Api, upstream, own, Server.Node.Time);
        using var local = new LocalTools(_pandora, new AllowedDirectories(allowed), TimeProvider.System);
        await using var host = new HostTransport(_toBridge.Reader.AsStream(), _toClient.Writer.AsStream(), _signal.Token);
        await new Bridge(upstream, sandboxes, local, Server.Node.Time).ServeAsync(host);
    }
}

/// <summary>The way to the server, which can break, and which can hold answers back.</summary>
[SuppressMessage("Reliability", "CA2000", Justification = "This handler disposes of the next one.")]
internal sealed class Line() : DelegatingHandler(new SocketsHttpHandler { MaxResponseDrainSize = 0 })
{
    /// <summary>What requests fail with; null while the line is whole.</summary>
    public Exception? Fault { get; set; }

    /// <summary>What answers wait for.</summary>
    public Task Open { get; set; } = Task.CompletedTask;

    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        if (Fault is { } fault)
        {
            throw fault;
        }

        var response = await base.SendAsync(request, cancellationToken);
        await Open.WaitAsync(cancellationToken);
        return response;
    }
}
