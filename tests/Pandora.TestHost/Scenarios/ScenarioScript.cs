using System.Text.RegularExpressions;

namespace Pandora.TestHost.Scenarios;

/// <summary>A file of scenarios: each exported function is a scenario.</summary>
/// <param name="Path">Path of the file, an <c>.mjs</c>. A <c>fixture.mjs</c> is beside it.</param>
internal sealed partial record ScenarioScript(string Path)
{
    /// <summary>The scenarios of the file, in their order.</summary>
    public IReadOnlyList<string> Scenarios => [.. ScenarioPattern().Matches(File.ReadAllText(Path)).Select(m => m.Groups["name"].Value)];

    [GeneratedRegex(@"^export async function (?<name>\w+)\(", RegexOptions.Multiline)]
    private static partial Regex ScenarioPattern();
}
