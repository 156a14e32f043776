using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Microsoft.OpenApi;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;

namespace Pandora.Server.Api;

/// <summary>The routes under <c>/sandboxes/{id}/processes</c>.</summary>
internal static class ProcessesApi
{
    private const double DefaultWait = 30;

    public static void MapProcesses(this IEndpointRouteBuilder routes)
    {
        var group = routes.MapGroup("/sandboxes/{id}/processes").WithTags("Processes");
        group.MapPost("", StartAsync).WithSummary("Start a process in the background")
            .WithDescription("It lives on when the client disconnects, until it ends, its timeout, or the end of the sandbox.")
            .Fails(ApiOperations.Process);
        group.MapGet("", ListAsync).WithSummary("List the processes, running and ended").Fails(ApiOperations.Process);
        group.MapGet("{processId}", GetAsync).WithSummary("Show a process").Fails(ApiOperations.Process);
        group.MapPost("{processId}/input", WriteInputAsync).WithSummary("Write to a process's input")
            .WithDescription("The body is raw bytes of any length, which are given to the process as they come. The answer comes when "
                + "the process's pipe or terminal has taken all. With offset, bytes that were accepted before are left out.")
            .Produces(204).Fails(ApiOperations.Process)
            .WithMetadata(new DisableRequestSizeLimitAttribute())
            .AddOpenApiOperationTransformer((operation, _, _) =>
            {
                // Any type is accepted, so that the framework must not check it.
                var bytes = new OpenApiMediaType { Schema = new OpenApiSchema { Type = JsonSchemaType.String, Format = "binary" } };
                operation.RequestBody = new OpenApiRequestBody
                {
                    Required = true,
                    Content = new Dictionary<string, OpenApiMediaType> { ["application/octet-stream"] = bytes },
                };
                return Task.CompletedTask;
            });
        group.MapDelete("{processId}/input", EndInputAsync).WithSummary("End a process's input")
            .Produces(204).Fails(ApiOperations.Process);
        group.MapPost("{processId}/signal", SignalAsync).WithSummary("Send a signal to a process and its group")
            .Produces(204).Fails(ApiOperations.Process);
        group.MapPost("{processId}/resize", ResizeAsync).WithSummary("Set the size of a process's terminal")
            .Produces(204).Fails(ApiOperations.Process);
        group.MapGet("{processId}/output", ReadAsync).WithSummary("Read a process's output")
            .WithDescription("As events, from an offset on; or with Accept: application/octet-stream as raw bytes. from=-1 begins with "
                + "what comes from now on; the header Last-Event-ID has precedence over from. follow=false ends the answer where the "
                + "output ends now.")
            .Produces<Stream>(200, EventStream.ContentType, RawOutput.ContentType).Fails(ApiOperations.Process);
        group.MapGet("{processId}/wait", WaitAsync).WithSummary("Wait for a process's end")
            .WithDescription("The answer is the process at its end, or as it is after timeout seconds, 30 if not given.")
            .Fails(ApiOperations.Process);
        group.MapGet("{processId}/attach", AttachAsync).WithSummary("Attach to a process by a WebSocket")
            .WithDescription($"The subprotocol is {ProcessEvents.WebSocketProtocol}. Binary frames are input and output, text frames "
                + "are JSON.")
            .Produces(101).Fails(ApiOperations.Process);
    }

    private static async Task<Created<ProcessState>> StartAsync(
        string id, StartProcessRequest request, ProjectSandboxes sandboxes, CancellationToken cancellationToken)
    {
        var spec = new ProcessSpec
        {
            Code = request.Code,
            Arguments = request.Args ?? [],
            TimeLimit = request.Timeout is { } timeout ? TimeoutOf(timeout) : null,
            Directory = request.Cwd,
            Environment = request.Env ?? new Dictionary<string, string>(),
            User = request.User,
            HasInput = request.Stdin == true,
            IsMerged = request.Merge == true,
            Terminal = request.Terminal is { } terminal ? (terminal.Columns, terminal.Rows) : null,
            KeepsAlive = request.KeepsAlive == true,
            WaitsForReader = request.WaitForReader == true,
            Tag = request.Tag,
        };
        var process = await Of(id, sandboxes, AuditOperation.ProcessStart).StartProcessAsync(spec, cancellationToken);
        return TypedResults.Created($"/sandboxes/{id}/processes/{process.Id}", ToState(process));
    }

    private static async Task<Ok<ProcessState[]>> ListAsync(string id, ProjectSandboxes sandboxes, CancellationToken cancellationToken) =>
        TypedResults.Ok((await Of(id, sandboxes).ListProcessesAsync(cancellationToken)).Select(ToState).ToArray());

    private static async Task<Ok<ProcessState>> GetAsync(
        string id, string processId, ProjectSandboxes sandboxes, CancellationToken cancellationToken) =>
        TypedResults.Ok(ToState(await Of(id, sandboxes).GetProcessAsync(processId, cancellationToken)));

    private static async Task<NoContent> WriteInputAsync(
        string id, string processId, ProjectSandboxes sandboxes, HttpContext context, long? offset, CancellationToken cancellationToken)
    {
        if (offset < 0)
        {
            throw PandoraException.Invalid("offset", "must not be negative");
        }

        // A person may type it.
        if (context.Features.Get<IHttpMinRequestBodyDataRateFeature>() is { } rate)
        {
            rate.MinDataRate = null;
        }

        await Of(id, sandboxes, AuditOperation.ProcessInput).WriteInputAsync(processId, context.Request.Body, offset, cancellationToken);
        return TypedResults.NoContent();
    }

    private static async Task<NoContent> EndInputAsync(
        string id, string processId, ProjectSandboxes sandboxes, CancellationToken cancellationToken)
    {
        await Of(id, sandboxes, AuditOperation.ProcessInput).EndInputAsync(processId, cancellationToken);
        return TypedResults.NoContent();
    }

    private static async Task<NoContent> SignalAsync(
        string id, string processId, SignalRequest request, ProjectSandboxes sandboxes, CancellationToken cancellationToken)
    {
        var signal = SignalNames.Parse(request.Signal);
        await Of(id, sandboxes, AuditOperation.ProcessSignal).SignalProcessAsync(processId, signal, cancellationToken);
        return TypedResults.NoContent();
    }

    private static async Task<NoContent> ResizeAsync(
        string id, string processId, TerminalSize request, ProjectSandboxes sandboxes, CancellationToken cancellationToken)
    {
        await Of(id, sandboxes).ResizeProcessAsync(processId, request.Columns, request.Rows, cancellationToken);
        return TypedResults.NoContent();
    }

    private static async Task<IResult> ReadAsync(
        string id, string processId, ProjectSandboxes sandboxes, HttpRequest request, long? from, string? encoding, string? stream,
        bool follow = true, [FromHeader(Name = "Last-Event-ID")] string? lastEventId = null, CancellationToken cancellationToken = default)
    {
        if (encoding is not (null or ByteEncodings.Utf8 or ByteEncodings.Base64))
        {
            throw PandoraException.Invalid("encoding", "must be utf-8 or base64");
        }

        if (stream is not (null or ProcessEvents.Stdout or ProcessEvents.Stderr))
        {
            throw PandoraException.Invalid("stream", "must be stdout or stderr");
        }

        var offset = FromOf(from, lastEventId);
        var process = await Of(id, sandboxes, AuditOperation.ProcessAttach)
            .AttachAsync(processId, new ReadFrom(offset), cancellationToken);
        var facts = process.Facts;
        await MustBeThereAsync(process, offset, lastEventId);
        long? pauseAt = follow ? null : facts.OutputEnd;
        return RawOutput.IsWanted(request)
            ? new RawOutput(process) { From = offset, PauseAt = pauseAt, Only = RawOutput.StreamOf(stream) }
            : new EventStream(process, encoding == ByteEncodings.Base64) { From = offset, PauseAt = pauseAt };
    }

    private static async Task<Ok<ProcessState>> WaitAsync(
        string id, string processId, ProjectSandboxes sandboxes, EngineOptions options, HttpContext context, double? timeout,
        CancellationToken cancellationToken)
    {
        var seconds = HeadRequests.IsHead(context) ? 0 : timeout ?? DefaultWait;
        if (!(seconds >= 0 && seconds <= options.LongestTimeout))
        {
            throw PandoraException.Invalid("timeout", $"must be between 0 and {options.LongestTimeout:0.#} seconds, and is {seconds}");
        }

        return TypedResults.Ok(ToState(
            await Of(id, sandboxes).WaitForProcessAsync(processId, TimeSpan.FromSeconds(seconds), cancellationToken)));
    }

    private static async Task<IResult> AttachAsync(
        string id, string processId, ProjectSandboxes sandboxes, HttpContext context, long? from, CancellationToken cancellationToken)
    {
        var sockets = context.WebSockets;
        if (!sockets.IsWebSocketRequest || !sockets.WebSocketRequestedProtocols.Contains(ProcessEvents.WebSocketProtocol))
        {
            throw PandoraException.Invalid(
                "Upgrade", $"this route is a WebSocket: ask for it with the subprotocol {ProcessEvents.WebSocketProtocol}");
        }

        var offset = FromOf(from, null);
        var process = await Of(id, sandboxes, AuditOperation.ProcessAttach)
            .AttachAsync(processId, new ReadFrom(offset), cancellationToken);
        await MustBeThereAsync(process, offset, null);
        return new AttachSocket(process);
    }

    // For operations that the audit does not record.
    private static Sandbox Of(string id, ProjectSandboxes sandboxes) => sandboxes.GetFor(id, SandboxOperation.Process);

    private static Sandbox Of(string id, ProjectSandboxes sandboxes, AuditOperation operation) => sandboxes.GetFor(id, operation);

    /// <summary>The time that a client gives a process. Whether it is too long, the engine says.</summary>
    internal static TimeSpan TimeoutOf(double seconds) => double.IsFinite(seconds) && seconds < TimeSpan.MaxValue.TotalSeconds
        ? TimeSpan.FromSeconds(seconds)
        : throw PandoraException.Invalid("timeout", "must be a number of seconds");

    private static long FromOf(long? from, string? lastEventId)
    {
        // A client that reconnects does so with the address of the first time.
        if (lastEventId is { Length: > 0 })
        {
            return long.TryParse(lastEventId, out var last) && last >= 0
                ? last
                : throw PandoraException.Invalid("Last-Event-ID", "must be an id of this stream, which is a number");
        }

        return from is null or >= -1
            ? from ?? 0
            : throw PandoraException.Invalid("from", "must be an offset, or -1 for what comes from now on");
    }

    private static async Task MustBeThereAsync(SandboxProcess process, long offset, string? lastEventId)
    {
        if (offset > process.Facts.OutputEnd)
        {
            var refusal = PandoraException.Invalid(
                lastEventId is { Length: > 0 } ? "Last-Event-ID" : "from",
                $"is {offset}, and the output ends at {process.Facts.OutputEnd}");
            process.Refuse(refusal);
            await process.DisposeAsync();
            throw refusal;
        }
    }

    private static ProcessState ToState(ProcessInfo process)
    {
        var (facts, end) = (process.Facts, process.End);
        return new ProcessState(
            process.Id, process.Pid, process.Command, process.StartedAt, end is null ? "running" : "exited",
            facts.IsForeground, facts.KeepsAlive, facts.HasInput, facts.HasTerminal, facts.InputOffset, facts.OutputBegin, facts.OutputEnd,
            process.Tag, end?.ExitCode, end?.Stopped is null ? null : true, end?.Stopped is { } stopped ? Label.Of(stopped.Outcome) : null,
            end?.OomLimit is null ? null : true, end?.OomLimit, end?.HasLeftovers == true ? true : null);
    }
}
