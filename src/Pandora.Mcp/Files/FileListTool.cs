using System.ComponentModel;
using System.Text;
using System.Text.Unicode;
using ModelContextProtocol.Protocol;
using Pandora.Engine;
using Pandora.Engine.Guests.Files;
using Pandora.Engine.Telemetry;
using Pandora.Mcp.Tools;
using ListedPage = Pandora.Engine.Guests.Files.FileAnswer;

namespace Pandora.Mcp.Files;

/// <summary>Arguments of <c>file_list</c>.</summary>
internal sealed record FileListArguments
{
    [Description("Path of the directory; root's home if left out.")]
    public string? Path { get; init; }

    [Description("Levels of directories, 1 to 64; 1 if left out.")]
    public int? Depth { get; init; }

    [Description("Most entries, 1 to 1000; 200 if left out.")]
    public int? Limit { get; init; }

    [Description("'next' of the last page.")]
    public string? After { get; init; }

    [Description(Texts.Sandbox)]
    public string? Sandbox { get; init; }
}

/// <summary>Lists a directory.</summary>
internal sealed class FileListTool() : PandoraTool<FileListArguments, ListAnswer>(
    "file_list",
    "List files",
    "Lists the files of a directory, with those of the directories below it if depth is more than 1.",
    Texts.Does(isReadOnly: true, isIdempotent: true))
{
    private const int Usual = 200, Most = 1000, MaxChars = 60_000;

    /// <inheritdoc/>
    protected override async Task<ToolAnswer<ListAnswer>> CallAsync(ToolCall call, FileListArguments arguments)
    {
        var limit = arguments.Limit ?? Usual;
        if (limit is < 1 or > Most)
        {
            throw PandoraException.Invalid("limit", $"must be between 1 and {Most}, and is {limit}");
        }

        var position = ListPosition.Parse(arguments.After);
        var spec = new FileSpec(FileAction.List, GuestFiles.PathOf(arguments.Path ?? "."))
        {
            Depth = arguments.Depth ?? 1,
            Limit = limit,
            After = position.After,
        };
        var sandbox = await call.SandboxAsync(arguments.Sandbox);
        var page = Shorten(await sandbox.AskFilesAsync(spec, call.Stop));
        var entries = page.Files.Select(f => new ListedFile(
            Encoding.UTF8.GetString(f.Path), Label.Of(f.Kind), f.Size, Utf8.IsValid(f.Path) ? null : true)).ToList();
        // It has the name of a file.
        var next = position.NextOf(page);
        IEnumerable<string> lines = entries.Select(e => e.Kind switch
        {
            "directory" => $"{e.Path}/",
            "file" => $"{e.Path} ({e.Size} bytes)",
            var kind => $"{e.Path} ({kind})",
        });
        lines = next is null ? lines : lines.Append($"next: {next}");
        return new(
            $"{entries.Count} entries{(next is null ? "" : "; there are more: give 'next', which comes last, as 'after'")}; "
                + call.Of(sandbox),
            new ListAnswer(sandbox.Id, call.NewSandbox is not null, new EntriesOfGuest(entries, next)),
            entries.Count == 0 ? null : new TextContentBlock { Text = string.Join('\n', lines) });
    }

    // Names may have 4,096 bytes each. One entry is shown in any case.
    private static ListedPage Shorten(ListedPage page)
    {
        var (shown, chars) = (0, 0);
        while (shown < page.Files.Count && (chars += page.Files[shown].Path.Length) <= MaxChars)
        {
            shown++;
        }

        shown = Math.Max(1, shown);
        return shown >= page.Files.Count
            ? page
            : new ListedPage([.. page.Files.Take(shown)], page.Outcome with { HasMore = true });
    }
}
