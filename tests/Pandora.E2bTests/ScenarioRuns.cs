using System.Collections.Concurrent;
using System.Text.Json;
using Pandora.Linux;

namespace Pandora.E2bTests;

/// <summary>
/// The runs of scenario files. A file is run once for each client, when the first of its scenarios is asked for: its scenarios share a
/// program and a sandbox.
/// </summary>
internal static class ScenarioRuns
{
    private static readonly TimeSpan LongestRun = TimeSpan.FromMinutes(8);
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web);
    private static readonly ConcurrentDictionary<(string Client, string File), Lazy<Task<IReadOnlyList<ScenarioResult>>>> Runs = [];

    /// <summary>The results of a file that was run; null when it was not.</summary>
    public static async Task<IReadOnlyList<ScenarioResult>?> FindAsync(Client client, ScenarioFile file)
    {
        try
        {
            return Runs.TryGetValue((client.Package, file.Name), out var run) ? await run.Value : null;
        }
        catch (CommandException)
        {
            // No scenario of the file has passed.
            return [];
        }
    }

    /// <summary>Fails when a scenario fails; runs its file if that was not done yet.</summary>
    public static async Task AssertPassesAsync(ServerOfClients server, string client, string file, string scenario)
    {
        Assert.SkipWhen(Clients.Missing is not null, Clients.Missing ?? "");
        var run = Runs.GetOrAdd((client, file), _ => new(() => RunAsync(server, client, ScenarioFile.All.Single(f => f.Name == file))));
        var result = (await run.Value).SingleOrDefault(r => r.Name == scenario);
        Assert.True(result is not null, $"{file} ended before the scenario");
        Assert.True(result.Ok, $"after {result.Milliseconds} ms: {result.Error}");
    }

    private static async Task<IReadOnlyList<ScenarioResult>> RunAsync(ServerOfClients server, string client, ScenarioFile file)
    {
        using var limit = new CancellationTokenSource(LongestRun, TimeProvider.System);
        string[] runner = [Path.Combine(ScenarioFile.Directory, "run.mjs"), Clients.Directory, client, file.Path, .. file.Scenarios];
        var output = await Command.RunAsync(
            "nsenter", [$"--net={server.World.Host.Path}", "node", .. server.NodeArguments, .. runner],
            environment: server.Environment, cancellationToken: limit.Token);
        await server.EndSandboxesAsync();
        return [.. output.Split('\n').Where(l => l.StartsWith('{')).Select(l => JsonSerializer.Deserialize<ScenarioResult>(l, Json)!)];
    }
}

/// <summary>A line of <c>run.mjs</c>.</summary>
internal sealed record ScenarioResult(string Name, bool Ok, long Milliseconds, string? Error);
