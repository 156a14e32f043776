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
        var (files, outcome) = await WriteFilesAsync(sandbox, spec, FileBody.Open(context), cancellationToken);
        return Show(context.Response, files[0], outcome.IsCreated);
    }

    private static async Task<Ok<UnpackedFiles>> UnpackAsync(
        string id, ProjectSandboxes sandboxes, HttpContext context, string? user, string? owner, string? compression,
        bool sparse = false, CancellationToken cancellationToken = default)
    {
        var sandbox = sandboxes.GetFor(id, AuditOperation.FileWrite);
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
        var (_, outcome) = await WriteFilesAsync(sandbox, spec, FileBody.Open(context, isGzip), cancellationToken);
        return TypedResults.Ok(new UnpackedFiles(outcome.Entries, outcome.Bytes));
    }

    private static async Task<NoContent> DeleteAsync(
        string id, ProjectSandboxes sandboxes, HttpRequest request, string? user, bool recursive = false,
        CancellationToken cancellationToken = default)
    {
        var sandbox = sandboxes.GetFor(id, AuditOperation.FileChange);
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

    private static async Task<FileAnswer> WriteFilesAsync(
        Sandbox sandbox, FileSpec spec, Stream body, CancellationToken cancellationToken)
    {
        try
        {
            await using (body)
            {
                return await sandbox.WriteFilesAsync(spec, body, cancellationToken);
            }
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
