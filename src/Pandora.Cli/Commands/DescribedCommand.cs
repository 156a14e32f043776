using System.CommandLine;

namespace Pandora.Cli.Commands;

/// <summary>A command whose own help ends with examples. The list of all commands has its description only.</summary>
/// <param name="name">Its name.</param>
/// <param name="description">What it does.</param>
/// <param name="examples">Command lines, each with a <c>#</c> and words where it needs them.</param>
internal sealed class DescribedCommand(string name, string description, params string[] examples) : Command(name, description)
{
    /// <summary>The examples as the help shows them.</summary>
    public string ExamplesText => $"Examples:\n{string.Concat(examples.Select(e => $"  {e}\n"))}\n";
}
