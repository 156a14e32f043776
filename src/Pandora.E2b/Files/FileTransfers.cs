using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.IO.Compression;
using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Microsoft.AspNetCore.WebUtilities;
using Microsoft.Net.Http.Headers;
using Pandora.E2b.Connect;
using Pandora.E2b.Data;
using Pandora.Engine;
using Pandora.Engine.Guests.Files;
using Pandora.Engine.Sandboxes;
using MinDataRate = Microsoft.AspNetCore.Server.Kestrel.Core.MinDataRate;

namespace Pandora.E2b.Files;

/// <summary>The route <c>/files</c>: reads a file, and writes one or several.</summary>
internal static class FileTransfers
{
    private const string Octets = "application/octet-stream", MetadataHeader = "X-Metadata-";

    // What is read of a part at once goes to the guest as a message.
    private const int PartBuffer = 128 * 1024;

    // As E2B's; with the prefix of their names they are within what the guest's filesystem takes.
    private const int MaxMetadataKey = 246, MaxMetadata = 3800;

    // Clients send many files at once. The others wait, and leave room for calls and watches.
    private const int MostAtOnce = 8;
    private static readonly ConditionalWeakTable<Sandbox, SemaphoreSlim> Turns = [];

    /// <summary>Handles a request.</summary>
    public static async Task HandleAsync(GuestRequest request)
    {
        var turns = Turns.GetValue(request.Sandbox, static _ => new SemaphoreSlim(MostAtOnce, MostAtOnce));
        await turns.WaitAsync(request.Aborted);
        try
        {
            await HandleInTurnAsync(request);
        }
        finally
        {
            turns.Release();
        }
    }

    private static async Task HandleInTurnAsync(GuestRequest request)
    {
        var context = request.Context;
        try
        {
            await (context.Request.Method switch
            {
                "GET" => ReadAsync(request),
                "POST" => WriteAsync(request),
                _ => throw new BadHttpRequestException("only GET and POST are supported", StatusCodes.Status405MethodNotAllowed),
            });
        }
        catch (ConnectException e)
        {
            await FailAsync(context, e.Status, e.Message);
        }
        catch (PandoraException e) when (e.Error is PandoraError.SandboxNotFound or PandoraError.SandboxGone)
        {
            context.Abort();
        }
        catch (PandoraException e)
        {
            await FailAsync(context, StatusOf(e), e.Message);
        }
        catch (BadHttpRequestException e)
        {
            await FailAsync(context, e.StatusCode, e.Message);
        }
        catch (Exception e) when (e is InvalidDataException || (e is IOException && !context.RequestAborted.IsCancellationRequested))
        {
            await FailAsync(context, StatusCodes.Status400BadRequest, $"the body cannot be read: {e.Message}");
        }
    }

    private static async Task ReadAsync(GuestRequest request)
    {
        var (context, user) = (request.Context, await UserAsync(request));
        var path = user.Resolve(context.Request.Query["path"].ToString());
        var range = RangeOf(context.Request);
        await using var files = await OpenAsync(request, path, range);
        var (file, response) = (files.File!, context.Response);
        response.ContentType = Octets;
        var name = path[(path.LastIndexOf('/') + 1)..];
        response.Headers.ContentDisposition = new ContentDispositionHeaderValue("inline") { FileNameStar = name }.ToString();
        response.Headers.AcceptRanges = "bytes";
        response.Headers.XContentTypeOptions = "nosniff";
        response.Headers.Vary = "Accept-Encoding";
        response.Headers.LastModified = HeaderUtilities.FormatDate(file.ModifiedAt);
        context.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();
        if (range is not null && file.Size > 0)
        {
            if (PartOf(range, file.Size) is not var (first, count))
            {
                response.Headers.ContentRange = $"bytes */{file.Size}";
                throw new BadHttpRequestException("none of the file's bytes is in the range", StatusCodes.Status416RangeNotSatisfiable);
            }

            response.StatusCode = StatusCodes.Status206PartialContent;
            response.ContentLength = count;
            response.Headers.ContentRange = string.Create(CultureInfo.InvariantCulture, $"bytes {first}-{first + count - 1}/{file.Size}");
            await CopyAsync(context, files, response.Body, count);
            return;
        }

        // Clients that prefer it say nothing else; those that would take anything get it as it is.
        if (context.Request.Headers.AcceptEncoding.ToString() == "gzip")
        {
            response.Headers.ContentEncoding = "gzip";
            await using var gzip = new GZipStream(response.Body, CompressionLevel.Fastest, leaveOpen: true);
            await CopyAsync(context, files, gzip, length: null);
            return;
        }

        // Files of /proc say that they have no bytes, and have some.
        long? length = file.Size > 0 ? file.Size : null;
        response.ContentLength = length;
        await CopyAsync(context, files, response.Body, length);
        if (length is null && !response.HasStarted)
        {
            response.ContentLength = 0;
        }
    }

    private static async Task<SandboxFiles> OpenAsync(GuestRequest request, string path, RangeItemHeaderValue? range)
    {
        var spec = new FileSpec(FileAction.Read, FileEntries.Bytes(path))
        {
            Offset = range is null ? 0 : range.From ?? -range.To!.Value,
            Length = range is { From: { } from, To: { } to } ? Math.Min(to, long.MaxValue - 1) - from + 1 : null,
        };
        try
        {
            return await request.Sandbox.OpenFilesAsync(spec, request.Aborted);
        }
        catch (PandoraException e) when (e.Error == PandoraError.FileNotFound)
        {
            throw new ConnectException(ConnectCode.NotFound, $"path '{path}' does not exist");
        }
        catch (PandoraException e) when (e.Error == PandoraError.FileState)
        {
            throw new ConnectException(ConnectCode.InvalidArgument, $"path '{path}' is a directory, or no regular file");
        }
    }

    private static async Task CopyAsync(HttpContext context, SandboxFiles files, Stream target, long? length)
    {
        try
        {
            for (var left = length ?? long.MaxValue; left > 0;)
            {
                if (await files.ReadAsync(context.RequestAborted) is not { } piece)
                {
                    if (length is not null)
                    {
                        // The file has become shorter.
                        context.Abort();
                    }

                    return;
                }

                var bytes = piece.Bytes[..(int)Math.Min(left, piece.Bytes.Length)];
                left -= bytes.Length;
                if (left == 0)
                {
                    files.Complete();
                }

                await target.WriteAsync(bytes, context.RequestAborted);
            }
        }
        catch (PandoraException) when (context.Response.HasStarted)
        {
            context.Abort();
        }
    }

    private static async Task WriteAsync(GuestRequest request)
    {
        var (context, user) = (request.Context, await UserAsync(request));
        Unbound(context);
        var type = MediaTypeHeaderValue.TryParse(context.Request.ContentType, out var parsed) ? parsed : null;
        await using var body = BodyOf(context.Request);
        var path = context.Request.Query["path"].ToString() is { Length: > 0 } given ? given : null;
        List<WrittenFile> written = [];
        if (type?.MediaType.Value?.StartsWith("multipart/", StringComparison.OrdinalIgnoreCase) == true)
        {
            await WritePartsAsync(request, user, path, new MultipartReader(BoundaryOf(type), body, PartBuffer), written);
        }
        else if (type?.MediaType.Equals(Octets, StringComparison.OrdinalIgnoreCase) == true)
        {
            written.Add(await WriteAsync(
                request, user, path ?? throw new BadHttpRequestException("path query parameter is required for raw body upload"), body));
        }
        else
        {
            throw new BadHttpRequestException(
                $"unsupported content type: {context.Request.ContentType}, expected multipart/form-data or {Octets}");
        }

        await context.Response.WriteAsJsonAsync(
            [.. written], E2bJson.Default.WrittenFileArray, ConnectCall.UnaryType, context.RequestAborted);
    }

    private static async Task WritePartsAsync(
        GuestRequest request, GuestUser user, string? path, MultipartReader parts, List<WrittenFile> written)
    {
        while (await parts.ReadNextSectionAsync(request.Aborted) is { } part)
        {
            if (!ContentDispositionHeaderValue.TryParse(part.ContentDisposition, out var disposition)
                || disposition.Name.Value?.Trim('"') != "file")
            {
                continue;
            }

            var name = path ?? (disposition.FileNameStar.HasValue ? disposition.FileNameStar : disposition.FileName).Value?.Trim('"');
            var target = name is { Length: > 0 }
                ? name
                : throw new BadHttpRequestException("a part needs a filename, or the request a path");
            if (written.Any(w => w.Path == user.Resolve(target)))
            {
                throw new BadHttpRequestException(
                    $"you cannot upload multiple files to the same path '{user.Resolve(target)}' in one upload request, "
                        + "only the first specified file was uploaded");
            }

            written.Add(await WriteAsync(request, user, target, part.Body));
        }
    }

    private static async Task<WrittenFile> WriteAsync(GuestRequest request, GuestUser user, string path, Stream body)
    {
        path = user.Resolve(path);
        var metadata = MetadataOf(request.Context.Request);
        var spec = new FileSpec(FileAction.Write, FileEntries.Bytes(path))
        {
            MakesParents = true,
            Owner = user.Name,
            WithAttributes = metadata is not null,
            Attributes = (metadata ?? []).ToDictionary(m => FileEntries.MetadataPrefix + m.Key, m => m.Value),
        };
        try
        {
            await request.Sandbox.WriteFilesAsync(spec, body, request.Aborted);
        }
        catch (FileBodyException e) when (e.InnerException is InvalidDataException or IOException or BadHttpRequestException)
        {
            throw new BadHttpRequestException($"the body of '{path}' could not be read: the file was not written");
        }

        return new WrittenFile(path, path[(path.LastIndexOf('/') + 1)..], "file", metadata);
    }

    // Null when there is none: clients compare the answer.
    private static Dictionary<string, string>? MetadataOf(HttpRequest request)
    {
        Dictionary<string, string> metadata = [];
        foreach (var (header, values) in request.Headers)
        {
            if (!header.StartsWith(MetadataHeader, StringComparison.OrdinalIgnoreCase) || header.Length == MetadataHeader.Length)
            {
                continue;
            }

            var (key, value) = (header[MetadataHeader.Length..].ToLowerInvariant(), values.ToString());
            if (key.Length > MaxMetadataKey || value.Any(c => c is < ' ' or > '~'))
            {
                throw new BadHttpRequestException(
                    $"metadata '{key}': a key has at most {MaxMetadataKey} bytes, and a value is printable ASCII");
            }

            metadata[key] = value;
        }

        if (metadata.Sum(m => m.Key.Length + m.Value.Length) > MaxMetadata)
        {
            throw new BadHttpRequestException($"metadata must be at most {MaxMetadata} bytes in all");
        }

        return metadata.Count > 0 ? metadata : null;
    }

    [SuppressMessage("Reliability", "CA2000", Justification = "The caller disposes of the body.")]
    private static Stream BodyOf(HttpRequest request) => request.Headers.ContentEncoding.ToString() switch
    {
        "" or "identity" => request.Body,
        "gzip" => new GZipStream(request.Body, CompressionMode.Decompress),
        var other => throw new BadHttpRequestException($"error decompressing request body: unsupported Content-Encoding '{other}'"),
    };

    private static string BoundaryOf(MediaTypeHeaderValue type) =>
        HeaderUtilities.RemoveQuotes(type.Boundary).Value is { Length: > 0 and <= 256 } boundary
            ? boundary
            : throw new BadHttpRequestException("the Content-Type has no boundary, or too long a one");

    private static Task<GuestUser> UserAsync(GuestRequest request)
    {
        var name = request.Context.Request.Query["username"].ToString();
        var user = name.Length > 0 ? name : request.IsSigned ? null : request.UserName;
        return request.Users.FindAsync(request.Sandbox, user, request.Aborted);
    }

    // Of several ranges, none is taken.
    private static RangeItemHeaderValue? RangeOf(HttpRequest request) =>
        RangeHeaderValue.TryParse(request.Headers.Range.ToString(), out var range)
            && range is { Unit.Value: "bytes", Ranges: { Count: 1 } items }
            ? items.Single()
            : null;

    private static (long First, long Count)? PartOf(RangeItemHeaderValue range, long size)
    {
        var first = range.From ?? Math.Max(0, size - range.To!.Value);
        var last = range.From is null ? size - 1 : Math.Min(size - 1, range.To ?? (size - 1));
        return first <= last ? (first, last - first + 1) : null;
    }

    private static void Unbound(HttpContext context)
    {
        var features = context.Features;
        if (features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } size)
        {
            size.MaxRequestBodySize = null;
        }

        if (features.Get<IHttpMinRequestBodyDataRateFeature>() is { } rate)
        {
            // A stream of the client's may pause. For one request of HTTP/2, the web server knows only no rate.
            rate.MinDataRate = HttpProtocol.IsHttp2(context.Request.Protocol)
                ? null
                : new MinDataRate(bytesPerSecond: 16, gracePeriod: TimeSpan.FromSeconds(60));
        }
    }

    private static int StatusOf(PandoraException exception) => exception.Error switch
    {
        PandoraError.DiskFull or PandoraError.HostFull => StatusCodes.Status507InsufficientStorage,
        PandoraError.FileNotFound => StatusCodes.Status404NotFound,
        PandoraError.FileAccessDenied => StatusCodes.Status403Forbidden,
        PandoraError.TooManyFileRequests => StatusCodes.Status429TooManyRequests,
        PandoraError.ShuttingDown or PandoraError.GuestUnreachable => StatusCodes.Status503ServiceUnavailable,
        PandoraError.InvalidRequest or PandoraError.FileExists or PandoraError.FileState => StatusCodes.Status400BadRequest,
        _ => StatusCodes.Status500InternalServerError,
    };

    private static async Task FailAsync(HttpContext context, int status, string message)
    {
        if (context.Response.HasStarted)
        {
            context.Abort();
            return;
        }

        if (status is StatusCodes.Status429TooManyRequests or StatusCodes.Status503ServiceUnavailable)
        {
            context.Response.Headers.RetryAfter = "1";
        }

        var range = context.Response.Headers.ContentRange;
        context.Response.Headers.ContentLength = null;
        context.Response.Headers.Remove("Content-Disposition");
        context.Response.Headers.ContentRange = range;
        await E2bProblems.WriteAsync(context, status, message);
    }
}
