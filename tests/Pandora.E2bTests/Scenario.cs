using Pandora.TestHost;
using Pandora.TestHost.Scenarios;

namespace Pandora.E2bTests;

/// <summary>A file of scenarios: <c>scenarios/NAME.mjs</c>, where each exported function is a scenario.</summary>
/// <param name="Name">Name of the file without its ending.</param>
/// <param name="Tier">Column of the matrix.</param>
internal sealed record ScenarioFile(string Name, Tier Tier)
{
    public static readonly IReadOnlyList<ScenarioFile> All =
    [
        new("commands", Tier.Guest),
        new("terminals", Tier.Guest),
        new("files", Tier.Guest),
        new("watching", Tier.Guest),
        new("sandboxes", Tier.Sandboxes),
        new("lists", Tier.Sandboxes),
        new("refusals", Tier.Sandboxes),
        new("git", Tier.Git),
        new("hosts", Tier.HostNames),
        new("cli", Tier.CommandLine),
    ];

    public static string Directory { get; } = Path.Combine(Repository.Root, "tests/Pandora.E2bTests/scenarios");

    public ScenarioScript Script => new(Path.Combine(Directory, $"{Name}.mjs"));

    /// <summary>The scenarios of the file, in their order.</summary>
    public IReadOnlyList<string> Scenarios => Script.Scenarios;

    /// <summary>Clients, files and scenarios of some tiers, for a theory.</summary>
    public static TheoryData<string, string, string> In(IReadOnlyList<Client> clients, params Tier[] tiers)
    {
        var rows = new TheoryData<string, string, string>();
        foreach (var client in clients)
        {
            foreach (var file in All.Where(f => tiers.Contains(f.Tier)))
            {
                foreach (var scenario in file.Scenarios)
                {
                    rows.Add(client.Package, file.Name, scenario);
                }
            }
        }

        return rows;
    }
}

/// <summary>What a group of scenarios needs, which is a column of the matrix.</summary>
internal enum Tier
{
    /// <summary>Commands, terminals and files.</summary>
    Guest,

    /// <summary>The control API.</summary>
    Sandboxes,

    /// <summary>Git in the guest.</summary>
    Git,

    /// <summary>Host names and TLS.</summary>
    HostNames,

    /// <summary>The command line.</summary>
    CommandLine,
}
