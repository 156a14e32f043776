namespace Pandora.TestHost.Scenarios;

/// <summary>Clients that './pandora test' installs with npm below <c>artifacts/</c>.</summary>
internal sealed class NpmClients
{
    /// <summary>Finds the clients.</summary>
    /// <param name="owner">Whose clients they are: <c>E2B</c> has the settings <c>PANDORA_TEST_E2B_*</c>.</param>
    /// <param name="directory">Their directory below <c>artifacts/</c>.</param>
    public NpmClients(string owner, string directory)
    {
        Directory = Environment.GetEnvironmentVariable($"PANDORA_TEST_{owner}_CLIENTS")
            ?? Path.Combine(Repository.Root, "artifacts", directory);
        Missing = Environment.GetEnvironmentVariable($"PANDORA_TEST_{owner}_MISSING");
        if (Missing is null && !File.Exists(Path.Combine(Directory, "node_modules/.package-lock.json")))
        {
            Missing = $"{owner}'s clients are not in {Directory}: './pandora test' installs them with npm, and needs a registry for it";
        }
    }

    /// <summary>The directory that has their <c>node_modules</c>.</summary>
    public string Directory { get; }

    /// <summary>Why the clients cannot be run; null when they can.</summary>
    public string? Missing { get; }
}
