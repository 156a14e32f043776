using Pandora.TestHost.Scenarios;

namespace Pandora.E2bTests;

/// <summary>E2B's clients.</summary>
internal static class Clients
{
    public static NpmClients Npm { get; } = new("E2B", "e2b-clients");

    /// <summary>The runs of their scenarios.</summary>
    public static ScenarioRuns Runs { get; } = new();

    /// <summary>Fails when a scenario fails; skips it where the clients cannot be run.</summary>
    public static Task AssertPassesAsync(ServerOfClients server, string client, string file, string scenario)
    {
        Assert.SkipWhen(Npm.Missing is not null, Npm.Missing ?? "");
        return Runs.RequirePassAsync(server, client, ScenarioFile.All.Single(f => f.Name == file).Script, scenario);
    }
}
