using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Text.Json;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Client;
using Pandora.Engine.Guests.Agent;
using Pandora.Extensions.AI;
using Pandora.Fakes;
using Pandora.Server.Hosting;

namespace Pandora.Tests.ExtensionsAI;

/// <summary>A fake server, a sandbox on it, and the sandbox's functions.</summary>
internal sealed class FunctionWorld : IAsyncDisposable
{
    private readonly Lazy<ChannelConnection> _files =
        new(() => new(AgentFiles.Connect(), "test", TimeProvider.System, NullLogger.Instance));

    private bool _isStopped;

    private FunctionWorld(FakeServer server, PandoraClient pandora, Sandbox sandbox) =>
        (Server, Pandora, Sandbox) = (server, pandora, sandbox);

    public FakeServer Server { get; }

    public PandoraClient Pandora { get; }

    public Sandbox Sandbox { get; }

    public FakeGuest Guest => Server.Node.GuestOf(Sandbox.Id);

    /// <summary>Starts a server and creates a sandbox.</summary>
    /// <param name="options">Settings of the server.</param>
    /// <param name="key">The client's key.</param>
    /// <param name="client">Makes the client for the server's address; null for one of its own connections.</param>
    [SuppressMessage("Reliability", "CA2000", Justification = "The world disposes of the client.")]
    public static async Task<FunctionWorld> StartAsync(
        ServerOptions? options = null, string? key = null, Func<Uri, PandoraClient>? client = null)
    {
        var server = await FakeServer.StartAsync(options, onLoopback: true);
        var address = server.Http.BaseAddress!;
        var pandora = client?.Invoke(address)
            ?? new PandoraClient(new PandoraClientOptions { Url = address, ApiKey = key, KeepAlive = false });
        return new FunctionWorld(server, pandora, await pandora.CreateAsync());
    }

    /// <summary>Calls a function.</summary>
    public async Task<object?> CallAsync(string name, object arguments, CancellationToken cancellationToken = default) =>
        await FunctionOf(name).InvokeAsync(ArgumentsOf(arguments), cancellationToken);

    /// <summary>Calls a function that answers with text.</summary>
    public async Task<string> TextAsync(string name, object arguments) => Assert.IsType<string>(await CallAsync(name, arguments));

    public AIFunction FunctionOf(string name) => Sandbox.AsAIFunctions().Single(f => f.Name == name);

    /// <summary>Gives the sandbox this machine's files: the agent's real code serves them.</summary>
    public void UseFiles() => Guest.Files = _files.Value;

    /// <summary>Stops the server, once.</summary>
    public async Task StopServerAsync()
    {
        if (!_isStopped)
        {
            _isStopped = true;
            await Server.DisposeAsync();
        }
    }

    public async ValueTask DisposeAsync()
    {
        await Sandbox.DisposeAsync();
        Pandora.Dispose();
        await StopServerAsync();
        if (_files.IsValueCreated)
        {
            await _files.Value.DisposeAsync();
        }
    }

    // As chat clients hand them on.
    private static AIFunctionArguments ArgumentsOf(object arguments) =>
        new(JsonSerializer.SerializeToElement(arguments).EnumerateObject().ToDictionary(p => p.Name, p => (object?)p.Value));
}

/// <summary>A connection to a server below a path, which fails when a test says so.</summary>
internal sealed class FaultyConnection : DelegatingHandler
{
    public const string Path = "/below/a/path";
    private readonly Uri _server;

    [SuppressMessage("Reliability", "CA2000", Justification = "The base disposes of its inner handler.")]
    public FaultyConnection(Uri server)
        : base(new HttpClientHandler()) => _server = server;

    /// <summary>What happens to requests of the MCP front end; null for nothing.</summary>
    public Func<HttpResponseMessage>? Fault { get; set; }

    /// <summary>Paths and keys of the requests.</summary>
    public List<(string Path, string? Key)> Requests { get; } = [];

    protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        var path = request.RequestUri!.AbsolutePath;
        Requests.Add((path, request.Headers.Authorization?.Parameter));
        if (Fault is { } fault && path.EndsWith("/mcp", StringComparison.Ordinal))
        {
            return Task.FromResult(fault());
        }

        request.RequestUri = path.StartsWith(Path, StringComparison.Ordinal)
            ? new Uri(_server, path[Path.Length..] + request.RequestUri.Query)
            : throw new HttpRequestException("not below the path", null, HttpStatusCode.BadGateway);
        return base.SendAsync(request, cancellationToken);
    }
}
