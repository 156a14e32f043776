using Microsoft.AspNetCore.Http.HttpResults;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Guests.Files;
using Pandora.Engine.Sandboxes;

namespace Pandora.Server.Api.Files;

/// <content>The routes that read.</content>
internal static partial class FilesApi
{
    private static async Task<IResult> ReadAsync(
        string id, ProjectSandboxes sandboxes, HttpContext context, string? user, CancellationToken cancellationToken)
    {
        var sandbox = sandboxes.GetFor(id, AuditOperation.FileRead);
        var (request, response) = (context.Request, context.Response);
        var spec = new FileSpec(FileAction.Read, FileParameters.PathOf(request)) { User = user };
        // RFC 9110, section 14.2: a range is one of GET only.
        var range = HeadRequests.IsHead(context) ? null : FileRange.Of(request.Headers.Range);
        var files = await sandbox.OpenFilesAsync(Bounded(spec, range, context), cancellationToken);
        var isOpen = true;
        try
        {
            var file = files.File!;
            if (FileConditions.IsRefused(request.Headers, file))
            {
                throw new PandoraException(
                    PandoraError.FilePrecondition, "the file is not in the state that If-Match or If-Unmodified-Since names");
            }

            if (FileConditions.IsKnown(request.Headers, file))
            {
                files.Complete();
                return FileContent.NotModified(response, file);
            }

            // A file of size 0 may be one of /proc, of which no part can be named.
            if (range is not null && (file.Size == 0 || !FileConditions.MayBeRange(request.Headers, file)))
            {
                files.Complete();
                await files.DisposeAsync();
                files = await sandbox.OpenFilesAsync(Bounded(spec, null, context), cancellationToken);
                (file, range) = (files.File!, null);
            }

            var part = range?.In(file.Size);
            if (range is not null && part is null)
            {
                var refusal = new PandoraException(
                    PandoraError.FileRange, $"the file has {file.Size} bytes, and none of them is in the range");
                files.Refuse(refusal);
                return FileContent.OutOfRange(response, file, refusal);
            }

            isOpen = false;
            return new FileContent(files, part);
        }
        catch (PandoraException e)
        {
            files.Refuse(e);
            throw;
        }
        finally
        {
            if (isOpen)
            {
                await files.DisposeAsync();
            }
        }
    }

    private static async Task<IResult> ShowAsync(
        string id, ProjectSandboxes sandboxes, HttpContext context, string? user, bool follow = false,
        CancellationToken cancellationToken = default)
    {
        var sandbox = sandboxes.GetFor(id, SandboxOperation.File);
        var spec = new FileSpec(FileAction.Show, FileParameters.PathOf(context.Request)) { User = user, FollowsLinks = follow };
        return Show(context.Response, (await sandbox.AskFilesAsync(spec, cancellationToken)).Files[0]);
    }

    private static async Task<Ok<FileList>> ListAsync(
        string id, ProjectSandboxes sandboxes, HttpRequest request, string? user, string? after, int depth = 1,
        int limit = Limits.DefaultListedFiles, CancellationToken cancellationToken = default)
    {
        var sandbox = sandboxes.GetFor(id, SandboxOperation.File);
        var path = FileParameters.PathOf(request);
        var position = ListPosition.Parse(after);
        var spec = new FileSpec(FileAction.List, path) { User = user, Depth = depth, Limit = limit, After = position.After };
        var page = await sandbox.AskFilesAsync(spec, cancellationToken);
        return TypedResults.Ok(new FileList([.. page.Files.Select(FileEntries.Of)], position.NextOf(page)));
    }

    private static async Task<IResult> PackAsync(
        string id, ProjectSandboxes sandboxes, HttpRequest request, string? user, string? compression,
        CancellationToken cancellationToken)
    {
        var sandbox = sandboxes.GetFor(id, AuditOperation.FileRead);
        var spec = new FileSpec(FileAction.Pack, FileParameters.PathOf(request)) { User = user };
        var isGzip = FileParameters.IsGzip(compression);
        return new FileArchive(await sandbox.OpenFilesAsync(spec, cancellationToken), isGzip);
    }

    private static async Task<IResult> WatchAsync(
        string id, ProjectSandboxes sandboxes, HttpRequest request, string? user, bool recursive = false,
        CancellationToken cancellationToken = default)
    {
        var sandbox = sandboxes.GetFor(id, AuditOperation.FileWatch);
        var spec = new FileSpec(FileAction.Watch, FileParameters.PathOf(request)) { User = user, IsRecursive = recursive };
        return new FileWatch(await sandbox.OpenFilesAsync(spec, cancellationToken));
    }

    // HEAD needs no byte of the file.
    private static FileSpec Bounded(FileSpec spec, FileRange? range, HttpContext context) => spec with
    {
        Offset = range is { First: not long.MinValue and var first } ? first : 0,
        Length = HeadRequests.IsHead(context) ? 0 : range?.Length,
    };

    private static IResult Show(HttpResponse response, GuestFile file, bool isCreated = false)
    {
        response.Headers.ETag = FileConditions.TagOf(file);
        var entry = FileEntries.Of(file);
        return isCreated ? TypedResults.Created((string?)null, entry) : TypedResults.Ok(entry);
    }
}
