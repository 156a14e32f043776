using System.ComponentModel;
using ModelContextProtocol.Protocol;
using Pandora.Engine;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp.Files;

/// <summary>Arguments of <c>file_search</c>.</summary>
internal sealed record FileSearchArguments
{
    [Description("Extended regular expression, found in lines of UTF-8 text files. Leave it out to find files by name.")]
    public string? Pattern { get; init; }

    [Description("Directory or file to search; root's home if left out. Of / all but /proc and /sys.")]
    public string? Path { get; init; }

    [Description("Only files with such names, such as *.py.")]
    public string? Name { get; init; }

    [Description("Whether the pattern is plain text.")]
    public bool? Literal { get; init; }

    [Description("Whether upper and lower case are the same.")]
    public bool? IgnoreCase { get; init; }

    [Description("Most matches, 1 to 1000; 100 if left out.")]
    public int? Limit { get; init; }

    [Description(Texts.Sandbox)]
    public string? Sandbox { get; init; }
}

/// <summary>Searches files by content or by name, with the guest's grep and find.</summary>
internal sealed class FileSearchTool() : PandoraTool<FileSearchArguments, SearchAnswer>(
    "file_search",
    "Search files",
    "Searches a directory and those below it, except .git, for lines that match a pattern, or for files by name.",
    Texts.Does(isReadOnly: true, isIdempotent: true))
{
    private const int Usual = 100, Most = 1000, MaxPattern = 4096;

    /// <inheritdoc/>
    protected override async Task<ToolAnswer<SearchAnswer>> CallAsync(ToolCall call, FileSearchArguments arguments)
    {
        var limit = arguments.Limit ?? Usual;
        if (limit is < 1 or > Most)
        {
            throw PandoraException.Invalid("limit", $"must be between 1 and {Most}, and is {limit}");
        }

        Check("pattern", arguments.Pattern);
        Check("name", arguments.Name);
        if (arguments is { Pattern: null, Name: null })
        {
            throw PandoraException.Invalid("pattern", "pattern or name must be given");
        }

        var sandbox = await call.SandboxAsync(arguments.Sandbox);
        var (matches, hasMore, isTimedOut) = await new GuestSearch(call, sandbox, arguments).RunAsync(limit);
        var lines = string.Join('\n', matches.Select(m => m.Line is { } line ? $"{m.Path}:{line}:{m.Text}" : m.Path));
        var rest = isTimedOut ? ", and the time was over before all was searched: narrow the search"
            : hasMore ? ", and there may be more: narrow the search"
            : "";
        return new(
            $"{matches.Count} matches{rest}; {call.Of(sandbox)}",
            new SearchAnswer(
                sandbox.Id, call.NewSandbox is not null, matches.Count, hasMore, isTimedOut ? true : null, new MatchesOfGuest(matches)),
            lines.Length == 0 ? null : new TextContentBlock { Text = lines });
    }

    private static void Check(string field, string? text)
    {
        if (text is not null && (text.Length is 0 or > MaxPattern || text.Contains('\0') || text.Contains('\n')))
        {
            throw PandoraException.Invalid(field, $"must be one line of 1 to {MaxPattern} characters without NUL");
        }
    }
}
