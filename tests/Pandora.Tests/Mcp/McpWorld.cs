using System.Text.Json;
using Microsoft.Extensions.Logging.Abstractions;
using ModelContextProtocol;
using ModelContextProtocol.Client;
using ModelContextProtocol.Protocol;
using Pandora.Engine;
using Pandora.Engine.Guests.Agent;
using Pandora.Fakes;
using Pandora.Server.Hosting;

namespace Pandora.Tests.Mcp;

/// <summary>A fake server, and the SDK's client of its MCP front end.</summary>
internal sealed class McpWorld : IAsyncDisposable
{
    private readonly Lazy<ChannelConnection> _files =
        new(() => new(AgentFiles.Connect(), "test", TimeProvider.System, NullLogger.Instance));

    private McpWorld(FakeServer server, McpClient client) => (Server, Client) = (server, client);

    public FakeServer Server { get; }

    public McpClient Client { get; }

    /// <summary>Starts a server and connects a client.</summary>
    /// <param name="options">Settings of the server.</param>
    /// <param name="engine">Settings of the engine.</param>
    /// <param name="key">The client's key.</param>
    public static async Task<McpWorld> StartAsync(ServerOptions? options = null, EngineOptions? engine = null, string? key = null)
    {
        var server = await FakeServer.StartAsync(options, engine, onLoopback: true);
        return new McpWorld(server, await ConnectAsync(server, key));
    }

    /// <summary>Connects another client.</summary>
    public static async Task<McpClient> ConnectAsync(FakeServer server, string? key = null, string? revision = null)
    {
        await using var transport = new HttpClientTransport(
            new HttpClientTransportOptions
            {
                Endpoint = new Uri(server.Http.BaseAddress!, "mcp"),
                TransportMode = HttpTransportMode.StreamableHttp,
                AdditionalHeaders = key is null ? null : new Dictionary<string, string> { ["Authorization"] = $"Bearer {key}" },
            },
            server.Http, ownsHttpClient: false);
        return await McpClient.CreateAsync(transport, new McpClientOptions { ProtocolVersion = revision });
    }

    /// <summary>Calls a tool.</summary>
    public async Task<CallToolResult> CallAsync(
        string tool, object arguments, IProgress<ProgressNotificationValue>? progress = null,
        CancellationToken cancellationToken = default) =>
        await Client.CallToolAsync(tool, ArgumentsOf(arguments), progress, cancellationToken: cancellationToken);

    /// <summary>Calls a tool that is to succeed.</summary>
    public async Task<JsonElement> DoAsync(string tool, object arguments)
    {
        var result = await CallAsync(tool, arguments);
        Assert.True(result.IsError is not true, TextOf(result));
        return result.StructuredContent!.Value;
    }

    /// <summary>Calls a tool that is to be refused.</summary>
    /// <returns>The code, the field, and the text.</returns>
    public async Task<(string Code, string? Field, string Text)> FailAsync(string tool, object arguments)
    {
        var result = await CallAsync(tool, arguments);
        Assert.True(result.IsError, $"{tool} was done: {result.StructuredContent}");
        var error = result.Meta!["pandora/error"]!.AsObject();
        return (error["code"]!.GetValue<string>(), error["field"]?.GetValue<string>(), TextOf(result));
    }

    /// <summary>Makes a sandbox whose files are those of this machine: the agent's real code serves them.</summary>
    public async Task<string> CreateWithFilesAsync()
    {
        var id = (await DoAsync("sandbox_create", new { })).GetProperty("sandbox").GetString()!;
        Server.Node.GuestOf(id).Files = _files.Value;
        return id;
    }

    /// <summary>The first text of an answer.</summary>
    public static string TextOf(CallToolResult result) => result.Content.OfType<TextContentBlock>().First().Text;

    public async ValueTask DisposeAsync()
    {
        await Client.DisposeAsync();
        await Server.DisposeAsync();
        if (_files.IsValueCreated)
        {
            await _files.Value.DisposeAsync();
        }
    }

    private static Dictionary<string, object?> ArgumentsOf(object arguments) =>
        JsonSerializer.SerializeToElement(arguments).EnumerateObject().ToDictionary(p => p.Name, p => (object?)p.Value);
}
