using System.Text.RegularExpressions;
using Pandora.Linux;

namespace Pandora.Engine.Templates;

/// <summary>
/// Runs apt, and tools that run apt, and reports a failure in apt's and dpkg's own sentences. Those name the package; the other tools say
/// only that something failed.
/// </summary>
internal static partial class AptErrors
{
    /// <summary>Runs a tool to its end, as <see cref="Command"/> does.</summary>
    /// <param name="tool">Name of the program.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="what">What the tool does, for the message.</param>
    /// <param name="onLine">Called with each line of standard error.</param>
    /// <param name="cancellationToken">Kills the tool.</param>
    /// <exception cref="CommandException">The tool failed; the message has apt's reasons, if there are any.</exception>
    public static async Task<string> RunAsync(
        string tool, IEnumerable<string> arguments, string what, Action<string>? onLine, CancellationToken cancellationToken)
    {
        var lines = new List<string>();
        try
        {
            return await Command.RunAsync(tool, arguments, cancellationToken: cancellationToken, onLine: line =>
            {
                lines.Add(line);
                onLine?.Invoke(line);
            });
        }
        catch (CommandException e) when (Find(lines) is { Count: > 0 } reasons)
        {
            throw new CommandException(e.Tool, e.ExitCode, $"{what} failed, and apt says: {string.Join("; ", reasons)}");
        }
    }

    /// <summary>Returns the lines that give a reason, each once, without the prefix of errors.</summary>
    internal static IReadOnlyList<string> Find(IEnumerable<string> lines)
    {
        var reasons = new List<string>();
        var isContinued = false;
        foreach (var line in lines)
        {
            if (isContinued && line.StartsWith(' '))
            {
                // This line says what is wrong with the package that the line before names.
                reasons.Add(SpacePattern().Replace(line.Trim(), " "));
                continue;
            }

            isContinued = line.StartsWith("The following packages have unmet dependencies", StringComparison.Ordinal)
                || line.StartsWith("dpkg: error", StringComparison.Ordinal);
            if (isContinued ? line[0] == 'd' : line.StartsWith("E: ", StringComparison.Ordinal) && !WrapperPattern().IsMatch(line))
            {
                reasons.Add(line.StartsWith("E: ", StringComparison.Ordinal) ? line[3..] : line.TrimEnd(':'));
            }
        }

        return [.. reasons.Distinct()];
    }

    // What a tool prints about the failure of another tool that it ran.
    [GeneratedRegex(@"^E: (setup failed|mmdebstrap failed|(env |apt-get |dpkg |run_).* failed|Sub-process .* returned an error code)")]
    private static partial Regex WrapperPattern();

    [GeneratedRegex(" +")]
    private static partial Regex SpacePattern();
}
