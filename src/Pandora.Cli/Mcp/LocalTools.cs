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

    // Clients cut a call at 60 s and more.
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(50);
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
        string tool, Dictionary<string, object?> arguments, string sandbox, IProgress<ProgressNotificationValue>? progress,
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

        using var limit = new CancellationTokenSource(Limit, time);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, limit.Token);
        try
        {
            await _turn.WaitAsync(stop.Token);
            try
            {
                var job = new CopyJob(pandora.Connect(sandbox).Files, new UploadOptions(), new DownloadOptions(), new Bytes(progress));
                return tool == "upload"
                    ? await UploadAsync(job, sandbox, from, to, stop.Token)
                    : await DownloadAsync(job, sandbox, from, to, stop.Token);
            }
            finally
            {
                _turn.Release();
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return ToolResults.Error(
                "timeout",
                $"the transfer was given up after {Limit.TotalSeconds:0} s: a single file was not written, and of a directory a part may "
                    + "be there. Your user can copy it with './pandora cp'");
        }
        catch (Exception e) when (Failure.Of(e) is { } failure && e is not OperationCanceledException)
        {
            return Refuse(e, failure.Problem);
        }
    }

    private async Task<CallToolResult> UploadAsync(CopyJob job, string sandbox, string from, string to, CancellationToken stop)
    {
        if (allowed.Find(from) is not { } source)
        {
            return Invalid(From, $"is not below {allowed.Names}, or leads out of it");
        }

        if (to.Contains('\0'))
        {
            return Invalid(To, "must not contain a NUL character");
        }

        if (!AllowedDirectories.IsPlain(source))
        {
            return Invalid(From, "there is no such file or directory");
        }

        return Done(sandbox, await job.UploadAsync(source, to, stop));
    }

    private async Task<CallToolResult> DownloadAsync(CopyJob job, string sandbox, string from, string to, CancellationToken stop)
    {
        if (allowed.Find(to) is not { } target)
        {
            return Invalid(To, $"is not below {allowed.Names}, or leads out of it");
        }

        // The copy gets the source's name there, and what has that name may be a link.
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

        return Done(sandbox, await job.DownloadAsync(from, target, stop));
    }

    private static CallToolResult Done(string sandbox, TransferResult result)
    {
        var answer = new JsonObject
        {
            [SandboxName] = sandbox,
            ["new_sandbox"] = false,
            ["files"] = result.Files,
            ["bytes"] = result.Bytes,
        };
        return new CallToolResult
        {
            Content = [new TextContentBlock { Text = $"copied {result.Files} files, {result.Bytes} bytes; sandbox {sandbox}" }],
            StructuredContent = JsonSerializer.SerializeToElement(answer, McpJsonUtilities.DefaultOptions),
        };
    }

    /// <inheritdoc/>
    public void Dispose() => _turn.Dispose();

    // The words about an archive have names of the guest's in them.
    private static CallToolResult Refuse(Exception exception, ApiProblem problem)
    {
        var code = problem.Code ?? "failed";
        if (exception is not FileTransferException)
        {
            return ToolResults.Error(code == "usage" ? "invalid_request" : code, problem.Detail ?? "the transfer failed");
        }

        var result = ToolResults.Error(code, "the transfer was not done, or not to its end; the next block says why");
        result.Content.Add(new TextContentBlock { Text = exception.Message, Meta = new() { ["pandora/from"] = "guest" } });
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
                },
                ["required"] = new JsonArray(SandboxName, "new_sandbox", "files", "bytes"),
            }),
        };
    }

    private static JsonElement ToElement(JsonObject schema) => JsonSerializer.SerializeToElement(schema, McpJsonUtilities.DefaultOptions);

    // How far a transfer is, as a client of MCP hears it.
    private sealed class Bytes(IProgress<ProgressNotificationValue>? progress) : IProgress<TransferProgress>
    {
        public void Report(TransferProgress value) => progress?.Report(
            new ProgressNotificationValue { Progress = value.Bytes, Total = value.TotalBytes, Message = $"{value.Bytes} bytes" });
    }
}
