using System.Net;
using System.Text.Json;
using ModelContextProtocol;
using ModelContextProtocol.Client;
using ModelContextProtocol.Protocol;
using Pandora.Client;

namespace Pandora.Cli.Mcp;

/// <summary>The server's own MCP front end. It has no sessions, so that one client serves across restarts of the server.</summary>
/// <param name="api">The server.</param>
internal sealed class Upstream(PandoraApi api) : IAsyncDisposable
{
    private const string Start = "./pandora up";
    private readonly SemaphoreSlim _turn = new(1, 1);
    private McpClient? _client;

    /// <summary>The tools that the server has.</summary>
    public async Task<IReadOnlyList<Tool>> ListAsync(CancellationToken cancellationToken)
    {
        var client = await ConnectAsync(cancellationToken);
        return [.. (await client.ListToolsAsync(cancellationToken: cancellationToken)).Select(t => t.ProtocolTool)];
    }

    /// <summary>Calls a tool.</summary>
    /// <param name="tool">Its name.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="progress">Hears how far it is; null when nobody wants to know.</param>
    /// <param name="cancellationToken">Ends the request, and so the work.</param>
    public async Task<CallToolResult> CallAsync(
        string tool, IReadOnlyDictionary<string, object?> arguments, IProgress<ProgressNotificationValue>? progress,
        CancellationToken cancellationToken)
    {
        var client = await ConnectAsync(cancellationToken);
        var result = await client.CallToolAsync(tool, arguments, progress, cancellationToken: cancellationToken);
        // What belongs to the connection to the server: the bridge's own client gets the bridge's.
        result.ResultType = null;
        result.Meta?.Remove("io.modelcontextprotocol/serverInfo");
        return result;
    }

    /// <summary>The answer for a server that cannot be used; null for every other exception.</summary>
    public CallToolResult? ErrorOf(Exception exception) => exception switch
    {
        HttpRequestException { StatusCode: HttpStatusCode.Unauthorized } => ToolResults.Error(
            "unauthorized", $"{api.Url} refuses the key. Your user must start this program with one of its keys in PANDORA_API_KEY"),
        HttpRequestException { StatusCode: HttpStatusCode.NotFound } => ToolResults.Error(
            "unexpected_answer", $"{api.Url} has no MCP front end: it is an older server, or none. Your user can name another by --url"),
        HttpRequestException { StatusCode: { } status } => ToolResults.Error(
            "unexpected_answer", $"{api.Url} answered with HTTP {(int)status}. Try again in a few seconds"),
        HttpRequestException { HttpRequestError: HttpRequestError.ConnectionError or HttpRequestError.NameResolutionError } =>
            ToolResults.Error(
                "unreachable", $"no server answers at {api.Url}, and nothing was done. '{Start}' on the server's machine starts one; "
                    + "then call again"),
        TimeoutException => ToolResults.Error(
            "timeout", $"the server at {api.Url} took the connection and did not answer, and nothing was done. Call again"),
        HttpRequestException or IOException or McpException and not McpProtocolException => ToolResults.Error(
            "unreachable",
            $"the connection to {api.Url} broke, and whether the work was done is not known: look before you repeat it. When no server "
                + $"answers, '{Start}' on the server's machine starts one"),
        _ => null,
    };

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await (_client?.DisposeAsync() ?? default);
        _turn.Dispose();
    }

    private async Task<McpClient> ConnectAsync(CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken);
        try
        {
            return _client ??= await CreateAsync(cancellationToken);
        }
        finally
        {
            _turn.Release();
        }
    }

    private async Task<McpClient> CreateAsync(CancellationToken cancellationToken)
    {
        await using var transport = new HttpClientTransport(
            new HttpClientTransportOptions
            {
                Endpoint = new Uri(api.Url, "mcp"),
                TransportMode = HttpTransportMode.StreamableHttp,
                AdditionalHeaders = api.ApiKey is { } key ? new Dictionary<string, string> { ["Authorization"] = $"Bearer {key}" } : null,
            },
            api.Http, ownsHttpClient: false);
        return await McpClient.CreateAsync(transport, cancellationToken: cancellationToken);
    }
}

/// <summary>Answers of tools.</summary>
internal static class ToolResults
{
    /// <summary>An error, in the form of the server's.</summary>
    public static CallToolResult Error(string code, string message, string? field = null)
    {
        var error = new System.Text.Json.Nodes.JsonObject { ["code"] = code };
        if (field is not null)
        {
            error["field"] = field;
        }

        return new CallToolResult
        {
            IsError = true,
            Content = [new TextContentBlock { Text = $"{code}: {(field is null ? "" : $"{field}: ")}{message}" }],
            Meta = new() { ["pandora/error"] = error },
        };
    }

    /// <summary>The code of an error; null for an answer that is none.</summary>
    public static string? CodeOf(CallToolResult result) => result.IsError == true
        ? result.Meta?["pandora/error"]?["code"]?.GetValue<string>()
        : null;

    /// <summary>A text of the structured answer; null when there is none.</summary>
    public static string? TextOf(CallToolResult result, string name) =>
        result.StructuredContent is { ValueKind: JsonValueKind.Object } answer && answer.TryGetProperty(name, out var value)
            && value.ValueKind == JsonValueKind.String
            ? value.GetString()
            : null;
}
