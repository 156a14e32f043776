using System.ComponentModel;
using System.Text;
using ModelContextProtocol.Protocol;
using Pandora.Engine;
using Pandora.Engine.Guests.Files;
using Pandora.Engine.Telemetry;
using Pandora.Mcp.Tools;

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
    private const int Usual = 200, Most = 1000;

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
        var page = await sandbox.AskFilesAsync(spec, call.Stop);
        var entries = page.Files.Select(f => new ListedFile(Encoding.UTF8.GetString(f.Path), Label.Of(f.Kind), f.Size)).ToList();
        var next = position.NextOf(page);
        var lines = string.Join('\n', entries.Select(e => e.Kind == "directory" ? $"{e.Path}/" : $"{e.Path} ({e.Size} bytes)"));
        return new(
            $"{entries.Count} entries{(next is null ? "" : $"; more with after {next}")}; {call.Of(sandbox)}",
            new ListAnswer(sandbox.Id, call.NewSandbox is not null, next, new EntriesOfGuest(entries)),
            lines.Length == 0 ? null : new TextContentBlock { Text = lines });
    }
}
