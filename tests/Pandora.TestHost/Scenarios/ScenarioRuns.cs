using System.Collections.Concurrent;
using System.Text.Json;
using Pandora.Linux;

namespace Pandora.TestHost.Scenarios;

/// <summary>
/// The runs of scenario files. A file is run once for each client, when the first of its scenarios is asked for: its scenarios share a
/// program and a sandbox.
/// </summary>
internal sealed class ScenarioRuns
{
    private static readonly string Runner = Path.Combine(Repository.Root, "tests/Pandora.TestHost/Scenarios/run.mjs");
    private static readonly TimeSpan LongestRun = TimeSpan.FromMinutes(20);
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web);
    private readonly ConcurrentDictionary<(string Client, string Path), Lazy<Task<IReadOnlyList<ScenarioResult>>>> _runs = [];

    /// <summary>The results of a file that was run; null when it was not.</summary>
    public async Task<IReadOnlyList<ScenarioResult>?> FindAsync(string client, ScenarioScript script)
    {
        try
        {
            return _runs.TryGetValue((client, script.Path), out var run) ? await run.Value : null;
        }
        catch (CommandException)
        {
            // No scenario of the file has passed.
            return [];
        }
    }

    /// <summary>Fails when a scenario fails; runs its file if that was not done yet.</summary>
    /// <exception cref="TestHostException">The scenario failed, or was not reached.</exception>
    public async Task RequirePassAsync(ServerOfScenarios server, string client, ScenarioScript script, string scenario)
    {
        var run = _runs.GetOrAdd((client, script.Path), _ => new(() => RunAsync(server, client, script)));
        var result = (await run.Value).SingleOrDefault(r => r.Name == scenario);
        TestHostException.Require(result is not null, $"{script.Path} ended before the scenario");
        TestHostException.Require(result!.Ok, $"after {result.Milliseconds} ms: {result.Error}");
    }

    private static async Task<IReadOnlyList<ScenarioResult>> RunAsync(ServerOfScenarios server, string client, ScenarioScript script)
    {
        using var limit = new CancellationTokenSource(LongestRun, TimeProvider.System);
        string[] runner = [Runner, server.Clients.Directory, client, script.Path, .. script.Scenarios];
        var output = await Command.RunAsync(
            "nsenter", [$"--net={server.World.Host.Path}", "node", .. server.NodeArguments, .. runner],
            environment: server.Environment, cancellationToken: limit.Token);
        await server.EndSandboxesAsync();
        return [.. output.Split('\n').Where(l => l.StartsWith('{')).Select(l => JsonSerializer.Deserialize<ScenarioResult>(l, Json)!)];
    }
}

/// <summary>A line of <c>run.mjs</c>.</summary>
/// <param name="Name">The scenario.</param>
/// <param name="Ok">Whether it passed.</param>
/// <param name="Milliseconds">How long it took.</param>
/// <param name="Error">Why it failed.</param>
/// <param name="Value">What it returned; null for nothing.</param>
internal sealed record ScenarioResult(string Name, bool Ok, long Milliseconds, string? Error, JsonElement? Value);
