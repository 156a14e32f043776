using ModelContextProtocol.Client;
using ModelContextProtocol.Protocol;
using Pandora.Client;

namespace Pandora.Extensions.AI;

/// <summary>The server's tools, called over the connections of a <see cref="PandoraClient"/> and with its key.</summary>
internal sealed class ServerTools(PandoraApi api)
{
    private static readonly Implementation Self = new()
    {
        Name = "Pandora.Extensions.AI",
        Version = typeof(ServerTools).Assembly.GetName().Version!.ToString(3),
    };

    // The server answers each call within 50 s. One that hangs must not hold the agent for ever.
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(70);

    // Nothing has to be disposed of: the server keeps no session, and the connections are the PandoraClient's.
    private McpClient? _client;

    /// <summary>Calls a tool.</summary>
    /// <param name="tool">Its name.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="cancellationToken">Ends the request; the server then ends what it does for it.</param>
    /// <returns>Its answer, which may be a failure.</returns>
    /// <exception cref="OperationCanceledException">It was cancelled, or no answer came within 70 s.</exception>
    public async Task<CallToolResult> CallAsync(
        string tool, IReadOnlyDictionary<string, object?> arguments, CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(Limit, api.Time);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, limit.Token);
        var client = await ConnectAsync(stop.Token).ConfigureAwait(false);
        return await client.CallToolAsync(tool, arguments, cancellationToken: stop.Token).ConfigureAwait(false);
    }

    // It asks the server which revision to speak, once. Two first calls may both ask, which harms nothing.
    private async Task<McpClient> ConnectAsync(CancellationToken cancellationToken)
    {
        if (_client is { Completion.IsCompleted: false } connected)
        {
            return connected;
        }

        var transport = new HttpClientTransport(
            new HttpClientTransportOptions
            {
                Name = "pandora",
                Endpoint = new Uri(api.Url, "mcp"),
                TransportMode = HttpTransportMode.StreamableHttp,
                AdditionalHeaders = api.ApiKey is { } key ? new Dictionary<string, string> { ["Authorization"] = $"Bearer {key}" } : null,
                EnableStandaloneGetStream = false,
            },
            api.Http, ownsHttpClient: false);
        await using (transport.ConfigureAwait(false))
        {
            return _client = await McpClient.CreateAsync(
                transport, new McpClientOptions { ClientInfo = Self }, cancellationToken: cancellationToken).ConfigureAwait(false);
        }
    }
}
