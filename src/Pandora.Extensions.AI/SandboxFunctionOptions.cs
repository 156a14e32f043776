namespace Pandora.Extensions.AI;

/// <summary>Which functions an agent gets, and their names. Everything may be left out.</summary>
public sealed class SandboxFunctionOptions
{
    /// <summary>Most characters of a function's name, which is what model providers take.</summary>
    private const int MaxNameLength = 64;

    /// <summary>
    /// Names of the functions to make, without the prefix, such as <c>run</c> and <c>file_read</c>. Default: null, all of them.
    /// </summary>
    public IReadOnlyCollection<string>? Include { get; set; }

    /// <summary>
    /// What each name begins with, so that an agent can use two sandboxes: letters, digits and underscores, and with a tool's name at
    /// most 64 characters. Default: empty.
    /// </summary>
    public string NamePrefix { get; set; } = "";

    internal void Check()
    {
        ArgumentNullException.ThrowIfNull(NamePrefix);
        if (!NamePrefix.All(c => char.IsAsciiLetterOrDigit(c) || c == '_')
            || NamePrefix.Length + SandboxTool.All.Max(t => t.Name.Length) > MaxNameLength)
        {
            throw new ArgumentException(
                $"NamePrefix must be of letters, digits and underscores, and names at most {MaxNameLength} characters: '{NamePrefix}'");
        }

        var known = SandboxTool.All.Select(t => t.Name).ToList();
        if (Include?.FirstOrDefault(n => !known.Contains(n)) is { } unknown)
        {
            throw new ArgumentException($"Include: there is no function '{unknown}'; there are {string.Join(", ", known)}");
        }
    }
}
