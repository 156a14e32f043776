using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using ModelContextProtocol;
using ModelContextProtocol.Client;
using Pandora.Client;
using Pandora.Load;

namespace Pandora.Bench;

/// <summary>What the MCP front end costs on top of Pandora's own API: commands by each in turn, with the official client.</summary>
internal static class McpBench
{
    private const int Rounds = 200, WarmUp = 30;

    // A client may hear the answer before the progress when both come at once.
    private const string Slow = "echo x; sleep 0.1";

    // About what a model pays for a token.
    private const double CharactersPerToken = 4;

    public static async Task<IReadOnlyList<Result>> RunAsync(BenchServer server)
    {
        using var http = new HttpClient();
        await using var transport = new HttpClientTransport(
            new HttpClientTransportOptions { Endpoint = new Uri($"{server.Url}/mcp"), TransportMode = HttpTransportMode.StreamableHttp },
            http, ownsHttpClient: false);
        await using var client = await McpClient.CreateAsync(transport);
        await using var sandbox = await server.Pandora.CreateAsync(
            new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(3600) });
        await server.WaitForQuietAsync(1);
        return [await RunTrueAsync(client, sandbox), await FirstProgressAsync(client, sandbox), await ListAsync(client)];
    }

    private static async Task<Result> RunTrueAsync(McpClient client, Sandbox sandbox)
    {
        Latencies mcp = new(), own = new();
        for (var i = -WarmUp; i < Rounds; i++)
        {
            var start = Stopwatch.GetTimestamp();
            await CallAsync(client, sandbox, "true");
            var took = Stopwatch.GetElapsedTime(start);
            start = Stopwatch.GetTimestamp();
            await sandbox.ExecAsync("true");
            if (i >= 0)
            {
                mcp.Add(took);
                own.Add(Stopwatch.GetElapsedTime(start));
            }
        }

        return Difference("`run` of `true` by MCP minus `exec` by HTTP, p50", mcp, own, 3);
    }

    private static async Task<Result> FirstProgressAsync(McpClient client, Sandbox sandbox)
    {
        Latencies progress = new(), stream = new();
        for (var i = -WarmUp; i < Rounds / 2; i++)
        {
            var first = new First();
            await CallAsync(client, sandbox, Slow, first);
            var start = Stopwatch.GetTimestamp();
            TimeSpan? took = null;
            await sandbox.ExecAsync(Slow, new ExecOptions { OnStdout = _ => took ??= Stopwatch.GetElapsedTime(start) });
            if (i >= 0)
            {
                progress.Add(first.Took!.Value);
                stream.Add(took!.Value);
            }
        }

        return Difference("first progress of `run` by MCP minus first byte of a streamed `exec`, p50", progress, stream, 5);
    }

    private static async Task<Result> ListAsync(McpClient client)
    {
        var tools = await client.ListToolsAsync();
        var characters = tools.Sum(t => JsonSerializer.Serialize(t.ProtocolTool, McpJsonUtilities.DefaultOptions).Length);
        return new Result(
            "the list of MCP tools, as a model pays for it", Math.Round(characters / CharactersPerToken), "tokens", 8000,
            $"{tools.Count} tools, {characters} characters / {CharactersPerToken:0}");
    }

    private static Result Difference(string name, Latencies mcp, Latencies own, double most) => new(
        name, mcp.Percentile(50) - own.Percentile(50), "ms", most,
        string.Create(CultureInfo.InvariantCulture, $"{mcp.Percentile(50):0.0} and {own.Percentile(50):0.0} ms, in turn"));

    private static async Task CallAsync(
        McpClient client, Sandbox sandbox, string command, IProgress<ProgressNotificationValue>? progress = null)
    {
        var arguments = new Dictionary<string, object?> { ["command"] = command, ["sandbox"] = sandbox.Id };
        var result = await client.CallToolAsync("run", arguments, progress);
        if (result.StructuredContent?.GetProperty("exit_code").GetInt32() != 0)
        {
            throw new InvalidOperationException($"'{command}' by MCP failed");
        }
    }

    private sealed class First : IProgress<ProgressNotificationValue>
    {
        private readonly long _start = Stopwatch.GetTimestamp();

        public TimeSpan? Took { get; private set; }

        public void Report(ProgressNotificationValue value) => Took ??= Stopwatch.GetElapsedTime(_start);
    }
}
