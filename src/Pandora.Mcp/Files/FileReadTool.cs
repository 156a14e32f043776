using System.ComponentModel;
using ModelContextProtocol.Protocol;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp.Files;

/// <summary>Arguments of <c>file_read</c>.</summary>
internal sealed record FileReadArguments
{
    [Description(Texts.Path)]
    public required string Path { get; init; }

    [Description(Texts.Sandbox)]
    public string? Sandbox { get; init; }

    [Description("Number of the line to begin at, from 1 on.")]
    public int? FirstLine { get; init; }

    [Description("Byte to begin at: next_cursor of the last answer.")]
    public long? Cursor { get; init; }

    [Description("Most characters of text, 200 to 100000; 16000 if left out.")]
    public int? MaxChars { get; init; }
}

/// <summary>Reads a file: text as text, an image as an image, and other files as a resource.</summary>
internal sealed class FileReadTool() : PandoraTool<FileReadArguments, FileAnswer>(
    "file_read",
    "Read a file",
    "Reads a file from its beginning, a line or a cursor on. Images are shown as images, other binary files as resources of 64 KiB.",
    Texts.Does(isReadOnly: true, isIdempotent: true))
{
    private const int MaxImage = 4 * 1024 * 1024, MaxBinary = 64 * 1024;

    /// <inheritdoc/>
    protected override async Task<ToolAnswer<FileAnswer>> CallAsync(ToolCall call, FileReadArguments arguments)
    {
        if (arguments is { FirstLine: not null, Cursor: not null })
        {
            throw PandoraException.Invalid("first_line", "cannot be given with cursor");
        }

        if (arguments.FirstLine < 1)
        {
            throw PandoraException.Invalid("first_line", "must be at least 1");
        }

        if (arguments.Cursor < 0)
        {
            throw PandoraException.Invalid("cursor", "must not be negative");
        }

        var chars = Processes.ReadUntil.CharsOf(arguments.MaxChars);
        var sandbox = await call.SandboxAsync(arguments.Sandbox);
        var offset = arguments.FirstLine is { } line and > 1
            ? await LineFinder.FindAsync(sandbox, arguments.Path, line, call.Stop)
            : arguments.Cursor ?? 0;
        var (file, bytes) = await GuestFiles.ReadAsync(sandbox, arguments.Path, offset, Math.Max(3 * chars, MaxBinary), call.Stop);
        if (bytes.Length == 0 && offset > file.Size)
        {
            throw PandoraException.Invalid("cursor", $"the file has {file.Size} bytes, and it is {offset}");
        }

        var type = offset == 0 ? FileKinds.ImageTypeOf(bytes) : null;
        if (type is not null && await ImageAsync(call, sandbox, arguments.Path, file.Size, type) is { } image)
        {
            return image;
        }

        return type is null && FileKinds.IsText(bytes)
            ? Text(call, sandbox, arguments, file.Size, offset, bytes, chars)
            : Binary(call, sandbox, arguments.Path, file.Size, offset, bytes);
    }

    private static ToolAnswer<FileAnswer> Text(
        ToolCall call, Sandbox sandbox, FileReadArguments arguments, long size, long offset, byte[] bytes, int chars)
    {
        var (text, taken, invalid) = FileKinds.TextOf(bytes, chars);
        var next = taken < bytes.Length || offset + taken < size ? offset + taken : (long?)null;
        var answer = Answer(call, sandbox, "text", size) with
        {
            FirstLine = arguments.FirstLine ?? (offset == 0 ? 1 : null),
            NextCursor = next,
            InvalidBytes = invalid > 0 ? invalid : null,
            Guest = new TextOfGuest(text),
        };
        var rest = next is { } cursor ? $"; more with cursor {cursor}" : "";
        rest += invalid > 0 ? $"; {invalid} bytes are no UTF-8: file_write of this text would change them" : "";
        var shown = text.Length == 0 ? null : new TextContentBlock { Text = text };
        return new($"text, bytes {offset} to {offset + taken} of {size}{rest}; {call.Of(sandbox)}", answer, shown);
    }

    private static ToolAnswer<FileAnswer> Binary(
        ToolCall call, Sandbox sandbox, string path, long size, long offset, byte[] bytes)
    {
        var shown = bytes.AsMemory(0, Math.Min(bytes.Length, MaxBinary));
        var next = offset + shown.Length < size ? offset + shown.Length : (long?)null;
        var resource = new EmbeddedResourceBlock
        {
            Resource = BlobResourceContents.FromBytes(shown, UriOf(sandbox, path), "application/octet-stream"),
        };
        var rest = next is { } cursor ? $"; more with cursor {cursor}" : "";
        return new(
            $"binary, bytes {offset} to {offset + shown.Length} of {size}{rest}; {call.Of(sandbox)}",
            Answer(call, sandbox, "binary", size) with { NextCursor = next },
            resource);
    }

    // Null for what only begins like an image.
    private static async Task<ToolAnswer<FileAnswer>?> ImageAsync(ToolCall call, Sandbox sandbox, string path, long size, string type)
    {
        var answer = Answer(call, sandbox, "image", size);
        if (size > MaxImage)
        {
            return new(
                $"an image of {size} bytes, and at most {MaxImage} are shown: make it smaller in the sandbox first; {call.Of(sandbox)}",
                answer);
        }

        var (_, bytes) = await GuestFiles.ReadAsync(sandbox, path, 0, MaxImage, call.Stop);
        return !FileKinds.IsWholeImage(bytes)
            ? null
            : new($"image, {size} bytes; {call.Of(sandbox)}", answer, ImageContentBlock.FromBytes(bytes, type));
    }

    private static FileAnswer Answer(ToolCall call, Sandbox sandbox, string kind, long size) => new()
    {
        Sandbox = sandbox.Id,
        NewSandbox = call.NewSandbox is not null,
        Kind = kind,
        Size = size,
        Guest = new TextOfGuest(null),
    };

    private static string UriOf(Sandbox sandbox, string path) =>
        $"pandora://{sandbox.Id}/{string.Join('/', path.Split('/').Select(Uri.EscapeDataString)).TrimStart('/')}";
}
