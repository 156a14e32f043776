using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using ModelContextProtocol;
using ModelContextProtocol.Protocol;
using Pandora.Cli.Files;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Mcp;

/// <summary>
/// The tools for files of this machine, <c>upload</c> and <c>download</c>. They are offered only with <c>--allow</c>. One transfer runs at
/// a time: else one could change the links by which another's path is checked.
/// </summary>
internal sealed class LocalTools(PandoraClient pandora, AllowedDirectories allowed, TimeProvider time) : IDisposable
{
    private const string From = "from", To = "to", SandboxName = "sandbox";

    // Errors whose words are the server's or this program's. In others stand names of files, which the guest may have chosen.
    private static readonly string[] OwnWords =
        ["sandbox_not_found", "unauthorized", "shutting_down", "recovering", "unreachable"];
    private readonly SemaphoreSlim _turn = new(1, 1);

    /// <summary>The tools; none without an allowed directory.</summary>
    public IReadOnlyList<Tool> Tools { get; } = allowed.IsEmpty ? [] :
    [
        Describe(
            "upload", "Upload files",
            "Copies a file or a directory of your user's machine into a sandbox, as cp -r would: into a directory that is there, under its "
                + "name.",
            $"Path on your user's machine, below {allowed.Names}.",
            "Path in the sandbox; relative to root's home unless it begins with /."),
        Describe(
            "download", "Download files",
            "Copies a file or a directory out of a sandbox to your user's machine, as cp -r would. A file that is there is replaced.",
            "Path in the sandbox.", $"Path on your user's machine, below {allowed.Names}."),
    ];

    /// <summary>Whether a tool is one of them.</summary>
    public bool Has(string tool) => Tools.Any(t => t.Name == tool);

    /// <summary>Calls one.</summary>
    public async Task<CallToolResult> CallAsync(
        string tool, Dictionary<string, object?> arguments, string? sandbox, IProgress<ProgressNotificationValue>? progress,
        CancellationToken cancellationToken)
    {
        if (arguments.Keys.FirstOrDefault(k => k is not (From or To or SandboxName)) is { } unknown)
        {
            return Invalid(unknown, $"there is no such argument; the arguments are {From}, {To}, {SandboxName}");
        }

        if (TextOf(arguments, From) is not { } from)
        {
            return Invalid(From, "must be given, as text");
        }

        if (TextOf(arguments, To) is not { } to)
        {
            return Invalid(To, "must be given, as text");
        }

        if (sandbox is null)
        {
            return Invalid(SandboxName, "must be text");
        }

        if (sandbox.Length is 0 or > 64 || !sandbox.All(char.IsAsciiLetterOrDigit))
        {
            return ToolResults.Error("sandbox_not_found", "there is no sandbox with this id. sandbox_list has those that there are");
        }

        // limits.h, PATH_MAX.
        if (new[] { (From, from), (To, to) }.FirstOrDefault(p => Encoding.UTF8.GetByteCount(p.Item2) > 4095) is { Item1: { } tooLong })
        {
            return Invalid(tooLong, "is longer than a path may be");
        }

        try
        {
            await _turn.WaitAsync(cancellationToken);
            try
            {
                var (files, bytes) = (pandora.Connect(sandbox).Files, new Bytes(progress, time));
                return tool == "upload"
                    ? await UploadAsync(files, bytes, sandbox, from, to, cancellationToken)
                    : await DownloadAsync(files, bytes, sandbox, from, to, cancellationToken);
            }
            finally
            {
                _turn.Release();
            }
        }
        catch (Exception e) when (
            Failure.Of(e) is { } failure && e is not OperationCanceledException && !cancellationToken.IsCancellationRequested)
        {
            return Refuse(failure.Problem);
        }
    }

    /// <summary>The answer when the time for a transfer is over.</summary>
    public static CallToolResult GivenUp(TimeSpan limit) => ToolResults.Error(
        "timeout",
        $"the transfer was given up after {limit.TotalSeconds:0} s: a single file may not have been written, and of a directory a part "
            + "may be there. Your user can copy it with './pandora cp'");

    private async Task<CallToolResult> UploadAsync(
        SandboxFiles files, Bytes progress, string sandbox, string from, string to, CancellationToken stop)
    {
        if (allowed.Find(from) is not { } source)
        {
            return Invalid(From, $"is not below {allowed.Names}, or leads out of it");
        }

        if (to.Contains('\0'))
        {
            return Invalid(To, "must not contain a NUL character");
        }

        var job = new CopyJob(files, new UploadOptions(), new DownloadOptions(), progress);
        var name = from.EndsWith("/.", StringComparison.Ordinal) ? null : CopySide.NameOf(source);
        if (Directory.Exists(source))
        {
            return Done(sandbox, await job.UploadAsync(source, name, isDirectory: true, to, stop));
        }

        using var file = allowed.Open(source);
        return file is null
            ? Invalid(From, "is no file or directory that can be read")
            : Done(sandbox, await job.UploadAsync(AllowedDirectories.PathOf(file), name, isDirectory: false, to, stop));
    }

    private async Task<CallToolResult> DownloadAsync(
        SandboxFiles files, Bytes progress, string sandbox, string from, string to, CancellationToken stop)
    {
        if (allowed.Find(to) is not { } target)
        {
            return Invalid(To, $"is not below {allowed.Names}, or leads out of it");
        }

        if (from.Contains('\0'))
        {
            return Invalid(From, "must not contain a NUL character");
        }

        // The copy gets the source's name there, and what has that name may be a link. A name that only the guest knows is not used.
        if (Directory.Exists(target) && CopySide.NameOf(from) is { } name)
        {
            target = allowed.Find(CopySide.Join(target, name));
            if (target is null)
            {
                return Invalid(To, $"'{name}' in it leads out of {allowed.Names}");
            }
        }

        if (File.Exists(target) && !AllowedDirectories.IsPlain(target))
        {
            return Invalid(To, "is neither a regular file nor a directory");
        }

        var info = await files.GetInfoAsync(from, follow: true, cancellationToken: stop);
        if (info.Type == FileTypes.Directory)
        {
            return File.Exists(target)
                ? Invalid(To, "is a file, and 'from' is a directory")
                : Done(sandbox, await files.DownloadDirectoryAsync(from, target, progress: progress, cancellationToken: stop));
        }

        if (Directory.Exists(target))
        {
            return Invalid(To, "is a directory, and 'from' is a file");
        }

        if (to.EndsWith('/') && !File.Exists(target))
        {
            return Invalid(To, "there is no such directory");
        }

        if (Path.GetDirectoryName(target) is { } parent && !Directory.Exists(parent))
        {
            return Invalid(To, "is in a directory that is not there");
        }

        return Done(sandbox, await files.DownloadFileAsync(from, target, progress: progress, cancellationToken: stop));
    }

    private static CallToolResult Done(string sandbox, TransferResult result)
    {
        var leftOut = result.SkippedCount == 0
            ? ""
            : $", and left out {result.SkippedCount} (devices, FIFOs, sockets, links that lead out, or names that cannot be here)";
        var answer = new JsonObject
        {
            [SandboxName] = sandbox,
            ["new_sandbox"] = false,
            ["files"] = result.Files,
            ["bytes"] = result.Bytes,
            ["left_out"] = result.SkippedCount,
        };
        return new CallToolResult
        {
            Content = [new TextContentBlock { Text = $"copied {result.Files} files, {result.Bytes} bytes{leftOut}; sandbox {sandbox}" }],
            StructuredContent = JsonSerializer.SerializeToElement(answer, McpJsonUtilities.DefaultOptions),
        };
    }

    /// <inheritdoc/>
    public void Dispose() => _turn.Dispose();

    private static CallToolResult Refuse(ApiProblem problem)
    {
        var code = problem.Code is null or "usage" ? "invalid_request" : problem.Code;
        if (OwnWords.Contains(code))
        {
            return ToolResults.Error(code, problem.Detail ?? "the transfer failed");
        }

        var result = ToolResults.Error(code, "the transfer was not done, or not to its end; the next block says why");
        result.Content.Add(new TextContentBlock { Text = problem.Detail ?? "", Meta = new() { ["pandora/from"] = "guest" } });
        return result;
    }

    private static CallToolResult Invalid(string field, string message) => ToolResults.Error("invalid_request", message, field);

    private static string? TextOf(Dictionary<string, object?> arguments, string name) => arguments.GetValueOrDefault(name) switch
    {
        JsonElement { ValueKind: JsonValueKind.String } element when element.GetString() is { Length: > 0 } text => text,
        _ => null,
    };

    private static Tool Describe(string name, string title, string description, string from, string to)
    {
        static JsonObject Text(string words) => new() { ["type"] = "string", ["description"] = words };
        static JsonObject Number() => new() { ["type"] = "integer" };
        return new Tool
        {
            Name = name,
            Title = title,
            Description = description,
            Annotations = new ToolAnnotations
            {
                Title = title,
                ReadOnlyHint = false,
                DestructiveHint = true,
                IdempotentHint = true,
                OpenWorldHint = false,
            },
            InputSchema = ToElement(new JsonObject
            {
                ["type"] = "object",
                ["properties"] = new JsonObject
                {
                    [From] = Text(from),
                    [To] = Text(to),
                    [SandboxName] = Text("Id of a sandbox. Leave it out for this session's own sandbox."),
                },
                ["required"] = new JsonArray(From, To),
                ["additionalProperties"] = false,
            }),
            OutputSchema = ToElement(new JsonObject
            {
                ["type"] = "object",
                ["properties"] = new JsonObject
                {
                    [SandboxName] = new JsonObject { ["type"] = "string" },
                    ["new_sandbox"] = new JsonObject { ["type"] = "boolean", ["description"] = "Whether this call made the sandbox." },
                    ["files"] = Number(),
                    ["bytes"] = Number(),
                    ["left_out"] = new JsonObject
                    {
                        ["type"] = "integer",
                        ["description"] = "Files that were not copied: devices, FIFOs, sockets; of a download also links that lead out.",
                    },
                },
                ["required"] = new JsonArray(SandboxName, "new_sandbox", "files", "bytes", "left_out"),
            }),
        };
    }

    private static JsonElement ToElement(JsonObject schema) => JsonSerializer.SerializeToElement(schema, McpJsonUtilities.DefaultOptions);

    // How far a transfer is, as a client of MCP hears it: once a second at most, as of commands.
    private sealed class Bytes(IProgress<ProgressNotificationValue>? progress, TimeProvider time) : IProgress<TransferProgress>
    {
        private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);
        private long _reported = time.GetTimestamp();

        public void Report(TransferProgress value)
        {
            if (progress is null || time.GetElapsedTime(_reported) < Interval)
            {
                return;
            }

            _reported = time.GetTimestamp();
            progress.Report(
                new ProgressNotificationValue { Progress = value.Bytes, Total = value.TotalBytes, Message = $"{value.Bytes} bytes" });
        }
    }
}
