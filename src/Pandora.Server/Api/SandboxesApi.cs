using System.Globalization;
using System.Text;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using Pandora.Contracts;
using Pandora.Engine.Node;
using Pandora.Engine;
using Pandora.Engine.Admission;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;
using Pandora.Server.Hosting;
using ReceiptResource = Pandora.Contracts.ReceiptResource;

namespace Pandora.Server.Api;

/// <summary>The routes under <c>/sandboxes</c>. Each reads a wire record, calls the engine once and answers with a wire record.</summary>
internal static class SandboxesApi
{
    public static void MapSandboxes(this IEndpointRouteBuilder routes)
    {
        var group = routes.MapGroup("/sandboxes").WithTags("Sandboxes");
        group.MapPost("", CreateAsync).WithSummary("Claim a warm microVM")
            .WithDescription("With an Idempotency-Key, a request that is sent again gets the sandbox that the first request created, "
                + "also after a restart of the server.")
            .Fails(ApiOperations.Create);
        group.MapGet("", List).WithSummary("List sandboxes")
            .WithDescription("Add metadata=key:value, once or more, to list only the sandboxes that have all these pairs. "
                + "In the key, write a colon as %3A and a percent sign as %25.")
            .Fails(ApiOperations.List);
        group.MapGet("{id}", Get).WithSummary("Show a sandbox").Fails(ApiOperations.Show);
        group.MapPost("{id}/exec", ExecAsync).WithSummary("Run a command")
            .WithDescription(
                "An answer has five members, and also each of the flags truncated, lossy, oom (with memory_limit_bytes) and disk_lost_data "
                    + "when it is true. "
                    + "A 504, and every other problem that says that a command did not end by itself, has the member command. "
                    + "Its value is what is known of the command: "
                    + "killed (checked afterwards: its shell has ended, its cgroup is empty, no process bears its mark), "
                    + "unknown (the command may still run), "
                    + "not_started, "
                    + "unreachable (the guest did not answer; the command may still run). "
                    + "A 504 has the outputs until then, and the flags, too. "
                    + $"A client that reads less than {Limits.Size(ReadingPace.MinRate)}/s of the answer on average, "
                    + $"after {ReadingPace.Grace.TotalSeconds:0} s, is disconnected. "
                    + "With Accept: text/event-stream the answer is a stream of events: started, stdout, stderr, dropped, exited, error, "
                    + "heartbeat. The id of an output is the offset after it.")
            .Produces<ExecResponse>(200, "application/json", EventStream.ContentType)
            .Fails(ApiOperations.Exec);
        group.MapPost("{id}/keepalive", KeepAlive).WithSummary("Restart a sandbox's idle timeout").Fails(ApiOperations.KeepAlive);
        group.MapPut("{id}/egress", SetEgressAsync).WithSummary("Set what a sandbox may reach")
            .WithDescription("With none, connections that are open are cut, and do not go on when the sandbox may reach the internet "
                + "again. "
                + "The request may be sent again.")
            .Fails(ApiOperations.Egress);
        group
            .MapDelete("{id}", DeleteAsync)
            .WithSummary("End a sandbox")
            .WithDescription("With receipt=true the answer is 200 with the receipt; otherwise it is 204 and empty.")
            .Produces<Receipt>().Produces(204).Fails(ApiOperations.Delete);
    }

    private static async Task<Created<SandboxCreated>> CreateAsync(
        CreateSandboxRequest? request,
        ProjectSandboxes sandboxes,
        HttpResponse response,
        [FromHeader(Name = "Idempotency-Key")] string? idempotencyKey,
        CancellationToken cancellationToken)
    {
        request ??= new CreateSandboxRequest();
        Egress? egress = request.Egress is { } name ? EgressOf(name) : null;
        var created = await sandboxes.CreateAsync(
            new SandboxRequest(request.IdleTimeout, request.Template, egress, request.Metadata, idempotencyKey, SizeOf(request))
            {
                PublicPorts = request.PublicPorts,
                SshKeys = request.SshKeys,
            },
            cancellationToken);
        if (created.IsReplayed)
        {
            response.Headers["Idempotency-Replayed"] = "true";
        }

        var sandbox = created.Sandbox.Status;
        return TypedResults.Created($"/sandboxes/{sandbox.Id}", new SandboxCreated(
            sandbox.Id, sandbox.Slot, sandbox.Address, created.IsWarm, Math.Round(created.Elapsed.TotalMilliseconds, 3),
            sandbox.Lifetime.Idle.TotalSeconds, sandbox.Template, created.Start is { } start ? Label.Of(start) : null));
    }

    private static WantedSize? SizeOf(CreateSandboxRequest request) =>
        request is { MemoryMib: null, Vcpus: null, DiskMib: null } ? null : new(request.MemoryMib, request.Vcpus, request.DiskMib);

    private static Ok<SandboxInfo[]> List(ProjectSandboxes sandboxes, string[]? metadata = null)
    {
        var wanted = (metadata ?? []).Select(pair => pair.Split(':', 2) is [var key, var value]
            ? (key: MetadataFilter.ReadKey(key), value)
            : throw PandoraException.Invalid("metadata", $"'{pair}' is not key:value")).ToList();
        return TypedResults.Ok(sandboxes.List().Select(ToInfo)
            .Where(s => wanted.All(w => s.Metadata.TryGetValue(w.key, out var value) && value == w.value)).ToArray());
    }

    private static Ok<SandboxInfo> Get(string id, ProjectSandboxes sandboxes) => TypedResults.Ok(ToInfo(sandboxes.Get(id).Status));

    private static Ok<SandboxInfo> KeepAlive(string id, ProjectSandboxes sandboxes)
    {
        var sandbox = sandboxes.GetFor(id, AuditOperation.Keepalive);
        sandbox.KeepAlive();
        return TypedResults.Ok(ToInfo(sandbox.Status));
    }

    private static async Task<Ok<SandboxInfo>> SetEgressAsync(
        string id, EgressRequest request, ProjectSandboxes sandboxes, CancellationToken cancellationToken)
    {
        var sandbox = sandboxes.GetFor(id, SandboxOperation.Egress);
        await sandbox.SetEgressAsync(EgressOf(request.Egress), cancellationToken);
        return TypedResults.Ok(ToInfo(sandbox.Status));
    }

    // Validation accepts only the names of the enumeration.
    private static Egress EgressOf(string name) => Enum.Parse<Egress>(name, ignoreCase: true);

    private static async Task<IResult> ExecAsync(
        string id, ExecRequest request, ProjectSandboxes sandboxes, HttpRequest http, HttpResponse response,
        CancellationToken cancellationToken)
    {
        var timeout = request.Timeout ?? Limits.DefaultExecTimeout;
        var command = new GuestCommand
        {
            Code = request.Code,
            Timeout = ProcessesApi.TimeoutOf(timeout),
            Cwd = request.Cwd,
            Env = request.Env ?? new Dictionary<string, string>(),
            User = request.User,
            Stdin = StdinOf(request),
            Merge = request.Merge == true,
        };
        if (EventStream.IsWanted(http))
        {
            var process = await sandboxes.GetFor(id, SandboxOperation.Exec).StartCommandAsync(command, cancellationToken);
            return new EventStream(process, request.Encoding == ByteEncodings.Base64) { Input = command.Stdin };
        }

        var execution = await sandboxes.GetFor(id, SandboxOperation.Exec).ExecAsync(command, cancellationToken);
        // While the result is written, the command counts as running. It stops counting however the writing ends.
        response.RegisterForDispose(execution);
        return new ExecAnswer(id, execution, timeout, asBase64: request.Encoding == ByteEncodings.Base64);
    }

    private static byte[] StdinOf(ExecRequest request)
    {
        var text = request.Stdin ?? "";
        try
        {
            return request.StdinEncoding == ByteEncodings.Base64 ? Convert.FromBase64String(text) : Encoding.UTF8.GetBytes(text);
        }
        catch (FormatException)
        {
            throw PandoraException.Invalid("stdin", "is not base64, and stdin_encoding says that it is");
        }
    }

    private static async Task<IResult> DeleteAsync(
        string id, ProjectSandboxes sandboxes, Func<NodeStatus> getStatus, HttpResponse response, bool receipt = false)
    {
        var ended = await sandboxes.DeleteAsync(id, complete: receipt);
        // W3C Server Timing; milliseconds.
        response.Headers["Server-Timing"] = string.Create(
            CultureInfo.InvariantCulture, $"teardown;dur={ended.Elapsed.TotalMilliseconds:0.###}");
        return receipt ? TypedResults.Ok(ToReceipt(ended, getStatus().Vmm.Isolation)) : TypedResults.NoContent();
    }

    private static SandboxInfo ToInfo(SandboxStatus status) => new(
        status.Id, status.Slot, status.Address, Math.Round(status.Age.TotalSeconds, 3), Math.Round(status.Idle.TotalSeconds, 3),
        status.Lifetime.Idle.TotalSeconds, status.ExecCount, status.Template, Label.Of(status.Egress.Default), status.Metadata,
        Label.Of(status.State), status.Reason, status.Project, status.Size?.MemoryMib, status.Size?.Vcpus,
        status.Size is { DiskMib: > 0 and var disk } ? disk : null);

    private static Receipt ToReceipt(EndedSandbox ended, string isolation)
    {
        var resources = ended.Undone.Select(u => new ReceiptResource(
            Label.Of(u.Resource.Kind), u.Resource.Name, Math.Round(u.Elapsed.TotalMilliseconds, 3), u.IsGone, u.Error)).ToList();
        return new Receipt(
            ended.Sandbox.Id, Label.Of(ended.End.Reason), Math.Round(ended.Sandbox.Age.TotalSeconds, 3), ended.Sandbox.ExecCount,
            Math.Round(ended.Elapsed.TotalMilliseconds, 3), resources, resources.Count(r => !r.Gone), isolation);
    }
}
