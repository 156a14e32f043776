using System.ComponentModel;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp.Files;

/// <summary>A part of a file.</summary>
internal sealed record FileAnswer
{
    public required string Sandbox { get; init; }

    [Description(Texts.IsNew)]
    public required bool NewSandbox { get; init; }

    [Description("text, image or binary. An image or binary is in the content of the answer.")]
    public required string Kind { get; init; }

    [Description("Size of the file in bytes.")]
    public required long Size { get; init; }

    [Description("Number of the first line that is shown, where it is known.")]
    public long? FirstLine { get; init; }

    [Description("Where the next file_read begins; missing at the end of the file.")]
    public long? NextCursor { get; init; }

    [Description("Bytes that are no UTF-8, shown as U+FFFD.")]
    public int? InvalidBytes { get; init; }

    [Description(Texts.Guest)]
    public required TextOfGuest Guest { get; init; }
}

/// <summary>Text of a file.</summary>
internal sealed record TextOfGuest(string? Text);

/// <summary>A file that was written.</summary>
internal sealed record WrittenAnswer(
    string Sandbox, [property: Description(Texts.IsNew)] bool NewSandbox, string Path, long Bytes,
    [property: Description("Whether there was no such file before.")] bool Created);

/// <summary>A file that was edited.</summary>
internal sealed record EditedAnswer(
    string Sandbox, [property: Description(Texts.IsNew)] bool NewSandbox, string Path,
    [property: Description("How many times the text was replaced.")] int Replaced,
    [property: Description("Line of the first replacement.")] int FirstLine);

/// <summary>Files of a directory.</summary>
internal sealed record ListAnswer(
    string Sandbox, [property: Description(Texts.IsNew)] bool NewSandbox, [property: Description(Texts.Guest)] EntriesOfGuest Guest);

/// <summary>Entries of a list.</summary>
internal sealed record EntriesOfGuest(
    IReadOnlyList<ListedFile> Entries,
    [property: Description("Value of 'after' for the next page; missing when there is none.")] string? Next);

/// <summary>A file in a list.</summary>
internal sealed record ListedFile(
    string Path, [property: Description("file, directory, link, or another kind.")] string Kind, long Size,
    [property: Description(Texts.NotUtf8)] bool? NotUtf8);

/// <summary>What a search found.</summary>
internal sealed record SearchAnswer(
    string Sandbox, [property: Description(Texts.IsNew)] bool NewSandbox, int Count,
    [property: Description("Whether there may be more than these.")] bool More,
    [property: Description("Set when the time was over before all was searched.")] bool? TimedOut,
    [property: Description(Texts.Guest)] MatchesOfGuest Guest);

/// <summary>Matches of a search.</summary>
internal sealed record MatchesOfGuest(IReadOnlyList<FoundText> Matches);

/// <summary>A match.</summary>
internal sealed record FoundText(
    string Path, long? Line, string? Text, [property: Description(Texts.NotUtf8)] bool? NotUtf8 = null);
