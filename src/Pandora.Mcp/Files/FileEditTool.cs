using System.ComponentModel;
using System.Text;
using Pandora.Engine;
using Pandora.Engine.Guests.Files;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp.Files;

/// <summary>Arguments of <c>file_edit</c>.</summary>
internal sealed record FileEditArguments
{
    [Description(Texts.Path)]
    public required string Path { get; init; }

    [Description("Text to replace, exactly as it is in the file.")]
    public required string OldText { get; init; }

    [Description("Text to put in its place.")]
    public required string NewText { get; init; }

    [Description("Whether to replace it wherever it is; else it must be there exactly once.")]
    public bool? All { get; init; }

    [Description(Texts.Sandbox)]
    public string? Sandbox { get; init; }
}

/// <summary>Replaces a text in a file.</summary>
internal sealed class FileEditTool() : PandoraTool<FileEditArguments, EditedAnswer>(
    "file_edit",
    "Edit a file",
    "Replaces a text in a file by another. The file keeps its owner and mode, and is not touched when the text is not there, or is there "
        + "more than once.",
    Texts.Does(isDestructive: true))
{
    private const int MaxSize = 8 * 1024 * 1024;
    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);

    /// <inheritdoc/>
    protected override async Task<ToolAnswer<EditedAnswer>> CallAsync(ToolCall call, FileEditArguments arguments)
    {
        if (arguments.OldText.Length == 0)
        {
            throw PandoraException.Invalid("old_text", "must not be empty: file_write writes whole files");
        }

        if (arguments.OldText == arguments.NewText)
        {
            throw PandoraException.Invalid("new_text", "is the same as old_text");
        }

        var sandbox = await call.SandboxAsync(arguments.Sandbox);
        var (file, bytes) = await GuestFiles.ReadAsync(sandbox, arguments.Path, 0, MaxSize + 1, call.Stop);
        var text = TextOf(bytes);
        var first = text.IndexOf(arguments.OldText, StringComparison.Ordinal);
        // In 'aaa', 'aa' is twice, and nobody knows which is meant.
        var count = Count(text, arguments.OldText, step: arguments.All == true ? arguments.OldText.Length : 1);
        if (count == 0)
        {
            throw PandoraException.Invalid("old_text", "is not in the file: read it with file_read, and give it exactly");
        }

        if (count > 1 && arguments.All != true)
        {
            throw PandoraException.Invalid(
                "old_text", $"is in the file {count} times: give more of what is around it, or all: true. Nothing was changed");
        }

        var growth = Encoding.UTF8.GetByteCount(arguments.NewText) - Encoding.UTF8.GetByteCount(arguments.OldText);
        var size = bytes.Length + ((long)count * growth);
        if (size > MaxSize)
        {
            throw PandoraException.Invalid(
                "new_text",
                $"the file would have {size} bytes, and may have {MaxSize / (1024 * 1024)} MiB: edit it by a command with run. Nothing was "
                    + "changed");
        }

        var edited = Encoding.UTF8.GetBytes(text.Replace(arguments.OldText, arguments.NewText, StringComparison.Ordinal));
        using var body = new MemoryStream(edited, writable: false);
        // Somebody else's change in between is not overwritten.
        var spec = new FileSpec(FileAction.Write, file.Path) { Condition = file.Tag };
        await sandbox.WriteFilesAsync(spec, body, call.Stop);
        var line = text.AsSpan(0, first).Count('\n') + 1;
        return new(
            $"replaced {count} times, first in line {line}; {call.Of(sandbox)}",
            new EditedAnswer(sandbox.Id, call.NewSandbox is not null, arguments.Path, count, line));
    }

    private static string TextOf(byte[] bytes)
    {
        if (bytes.Length > MaxSize)
        {
            throw PandoraException.Invalid(
                "path", $"the file has more than {MaxSize / (1024 * 1024)} MiB: edit it by a command, such as sed, with run");
        }

        try
        {
            return Strict.GetString(bytes);
        }
        catch (DecoderFallbackException)
        {
            throw PandoraException.Invalid("path", "the file is no UTF-8 text: edit it by a command with run");
        }
    }

    private static int Count(string text, string part, int step)
    {
        var count = 0;
        for (var at = text.IndexOf(part, StringComparison.Ordinal); at >= 0;
            at = text.IndexOf(part, at + step, StringComparison.Ordinal))
        {
            count++;
        }

        return count;
    }
}
