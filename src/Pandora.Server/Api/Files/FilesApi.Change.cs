using System.Runtime.ExceptionServices;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Guests.Files;
using Pandora.Engine.Sandboxes;

namespace Pandora.Server.Api.Files;

/// <content>The routes that write and change.</content>
internal static partial class FilesApi
{
    private static async Task<IResult> WriteAsync(
        string id, ProjectSandboxes sandboxes, HttpContext context, string? user, string? mode, string? owner,
        [FromQuery(Name = "modified_at")] string? modifiedAt, bool parents = true, bool sparse = false,
        CancellationToken cancellationToken = default)
    {
        var sandbox = sandboxes.GetFor(id, AuditOperation.FileWrite);
        // A part would take the place of the whole (RFC 9110, section 14.5), and compressed bytes that of the content.
        FileConditions.Refuse(context.Request.Headers, "Content-Range", "Content-Encoding", "If-Unmodified-Since");
        var spec = new FileSpec(FileAction.Write, FileParameters.PathOf(context.Request))
        {
            User = user,
            Mode = FileParameters.ModeOf(mode),
            Owner = owner,
            MakesParents = parents,
            IsSparse = sparse,
            ModifiedAt = FileParameters.ModifiedAtOf(modifiedAt),
            Condition = FileConditions.OfWrite(context.Request.Headers),
        };
        return await WriteFilesAsync(
            context, sandbox, spec, isGzip: false, a => Show(context.Response, a.Files[0], a.Outcome.IsCreated), cancellationToken);
    }

    private static async Task<IResult> UnpackAsync(
        string id, ProjectSandboxes sandboxes, HttpContext context, string? user, string? owner, string? compression,
        bool sparse = false, CancellationToken cancellationToken = default)
    {
        var sandbox = sandboxes.GetFor(id, AuditOperation.FileWrite);
        FileConditions.Refuse(context.Request.Headers, "Content-Range", "If-Match", "If-None-Match", "If-Unmodified-Since");
        var spec = new FileSpec(FileAction.Unpack, FileParameters.PathOf(context.Request))
        {
            User = user,
            Owner = owner,
            MakesParents = true,
            IsSparse = sparse,
        };
        var isGzip = FileParameters.IsGzip(compression);
        isGzip |= context.Request.Headers.ContentEncoding.ToString().Trim().ToUpperInvariant() switch
        {
            "" or "IDENTITY" => false,
            "GZIP" => true,
            _ => throw PandoraException.Invalid("Content-Encoding", "must be gzip, or left out"),
        };
        return await WriteFilesAsync(
            context, sandbox, spec, isGzip, a => TypedResults.Ok(new UnpackedFiles(a.Outcome.Entries, a.Outcome.Bytes)), cancellationToken);
    }

    private static async Task<NoContent> DeleteAsync(
        string id, ProjectSandboxes sandboxes, HttpRequest request, string? user, bool recursive = false,
        CancellationToken cancellationToken = default)
    {
        var sandbox = sandboxes.GetFor(id, AuditOperation.FileChange);
        FileConditions.Refuse(request.Headers, "If-Match", "If-None-Match", "If-Unmodified-Since");
        var spec = new FileSpec(FileAction.Delete, FileParameters.PathOf(request)) { User = user, IsRecursive = recursive };
        await sandbox.AskFilesAsync(spec, cancellationToken);
        return TypedResults.NoContent();
    }

    private static async Task<IResult> MakeDirectoryAsync(
        string id, MakeDirectoryRequest request, ProjectSandboxes sandboxes, HttpResponse response, CancellationToken cancellationToken)
    {
        var sandbox = sandboxes.GetFor(id, AuditOperation.FileChange);
        var spec = new FileSpec(FileAction.MakeDirectory, FileParameters.PathOf("path", request.Path, request.PathBase64))
        {
            User = request.User,
            Mode = FileParameters.ModeOf(request.Mode),
            Owner = request.Owner,
            MakesParents = request.Parents ?? true,
        };
        var (files, outcome) = await sandbox.AskFilesAsync(spec, cancellationToken);
        return Show(response, files[0], outcome.IsCreated);
    }

    private static Task<IResult> MoveAsync(
        string id, MoveFileRequest request, ProjectSandboxes sandboxes, HttpResponse response, CancellationToken cancellationToken) =>
        TransferAsync(FileAction.Move, sandboxes.GetFor(id, AuditOperation.FileChange), request, response, cancellationToken);

    private static Task<IResult> CopyAsync(
        string id, MoveFileRequest request, ProjectSandboxes sandboxes, HttpResponse response, CancellationToken cancellationToken) =>
        TransferAsync(FileAction.Copy, sandboxes.GetFor(id, AuditOperation.FileChange), request, response, cancellationToken);

    private static async Task<IResult> TransferAsync(
        FileAction action, Sandbox sandbox, MoveFileRequest request, HttpResponse response, CancellationToken cancellationToken)
    {
        var spec = new FileSpec(action, FileParameters.PathOf("from", request.From, request.FromBase64))
        {
            Target = FileParameters.PathOf("to", request.To, request.ToBase64),
            User = request.User,
            Replaces = request.Replace == true,
            // A directory is moved with what is in it, whether the client says so or not.
            IsRecursive = request.Recursive == true,
            MakesParents = request.Parents ?? true,
        };
        return Show(response, (await sandbox.AskFilesAsync(spec, cancellationToken)).Files[0]);
    }

    // Writes what the body has. What the guest answers before the body's end must reach a client that still sends.
    private static async Task<IResult> WriteFilesAsync(
        HttpContext context, Sandbox sandbox, FileSpec spec, bool isGzip, Func<FileAnswer, IResult> show,
        CancellationToken cancellationToken)
    {
        var body = FileBody.Open(context);
        try
        {
            await using Stream content = isGzip ? new GzipBody(body) : body;
            return show(await sandbox.WriteFilesAsync(spec, content, cancellationToken));
        }
        catch (PandoraException e)
        {
            return new EarlyAnswer(context.RequestServices.GetRequiredService<Problems>().ToResult(e), body);
        }
        catch (FileBodyException e) when (e.InnerException is { } fault)
        {
            // What it was is the answer: a body that is too slow, or none of HTTP.
            ExceptionDispatchInfo.Throw(fault is IOException and not BadHttpRequestException
                ? new BadHttpRequestException("the body was cut off", fault)
                : fault);
            throw;
        }
    }
}
