using System.ComponentModel;
using System.Text;
using Pandora.Engine;
using Pandora.Engine.Guests.Files;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp.Files;

/// <summary>Arguments of <c>file_write</c>.</summary>
internal sealed record FileWriteArguments
{
    [Description(Texts.Path)]
    public required string Path { get; init; }

    [Description("The whole content.")]
    public string? Text { get; init; }

    [Description("The whole content as base64, for binary files.")]
    public string? Base64 { get; init; }

    [Description(Texts.Sandbox)]
    public string? Sandbox { get; init; }

    [Description("Permission bits in octal, such as 755.")]
    public string? Mode { get; init; }
}

/// <summary>Writes a file.</summary>
internal sealed class FileWriteTool() : PandoraTool<FileWriteArguments, WrittenAnswer>(
    "file_write",
    "Write a file",
    "Writes a whole file, at once or not at all, and makes the directories on its way. It replaces a file that is there.",
    Texts.Does(isDestructive: true, isIdempotent: true))
{
    /// <inheritdoc/>
    protected override async Task<ToolAnswer<WrittenAnswer>> CallAsync(ToolCall call, FileWriteArguments arguments)
    {
        var bytes = ContentOf(arguments);
        var spec = new FileSpec(FileAction.Write, GuestFiles.PathOf(arguments.Path))
        {
            MakesParents = true,
            Mode = ModeOf(arguments.Mode),
        };
        var sandbox = await call.SandboxAsync(arguments.Sandbox);
        using var body = new MemoryStream(bytes, writable: false);
        var written = await sandbox.WriteFilesAsync(spec, body, call.Stop);
        return new(
            $"wrote {bytes.Length} bytes; {call.Of(sandbox)}",
            new WrittenAnswer(
                sandbox.Id, call.NewSandbox is not null, arguments.Path, bytes.Length, written.Outcome.IsCreated));
    }

    private static byte[] ContentOf(FileWriteArguments arguments)
    {
        if (arguments.Text is null == arguments.Base64 is null)
        {
            throw PandoraException.Invalid("text", "either text or base64 must be given, and not both");
        }

        try
        {
            return arguments.Text is { } text ? Encoding.UTF8.GetBytes(text) : Convert.FromBase64String(arguments.Base64!);
        }
        catch (FormatException)
        {
            throw PandoraException.Invalid("base64", "is no base64");
        }
    }

    private static int? ModeOf(string? mode)
    {
        if (mode is null)
        {
            return null;
        }

        return mode.Length is 3 or 4 && mode.All(c => c is >= '0' and <= '7')
            ? Convert.ToInt32(mode, 8)
            : throw PandoraException.Invalid("mode", "must be three or four octal digits, such as 755");
    }
}
