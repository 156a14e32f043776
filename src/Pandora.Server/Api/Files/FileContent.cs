using System.Buffers;
using System.Globalization;
using Microsoft.Net.Http.Headers;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Guests.Files;
using Pandora.Engine.Sandboxes;

namespace Pandora.Server.Api.Files;

/// <summary>
/// A file's bytes, as they come from the guest. When they are fewer than the length that was sent, the connection is cut.
/// </summary>
/// <param name="files">The file that is read, which is disposed of at the end.</param>
/// <param name="range">The range that is sent; null for the whole file.</param>
internal sealed class FileContent(SandboxFiles files, (long First, long Length)? range) : IResult
{
    /// <summary>The type of the answer.</summary>
    public const string ContentType = "application/octet-stream";

    private readonly GuestFile _file = files.File!;

    /// <inheritdoc/>
    public async Task ExecuteAsync(HttpContext httpContext)
    {
        await using var disposing = files.ConfigureAwait(false);
        var response = httpContext.Response;
        Describe(response, _file);
        response.ContentType = ContentType;
        EventStream.Prepare(response);
        // Files of /proc say that they have no bytes, and have some.
        long? length = range?.Length ?? (_file.Size > 0 ? _file.Size : null);
        response.ContentLength = length;
        if (range is var (first, count))
        {
            response.StatusCode = StatusCodes.Status206PartialContent;
            response.Headers.ContentRange = string.Create(
                CultureInfo.InvariantCulture, $"bytes {first}-{first + count - 1}/{_file.Size}");
        }

        if (HeadRequests.IsHead(httpContext))
        {
            files.Complete();
            return;
        }

        var answer = new FileAnswerWriter(httpContext);
        try
        {
            for (var left = length ?? long.MaxValue; left > 0;)
            {
                if (await answer.NextAsync(files) is not { } piece)
                {
                    if (length is not null)
                    {
                        // The file has become shorter.
                        httpContext.Abort();
                    }

                    return;
                }

                // A file that has grown meanwhile has more.
                var taken = (int)Math.Min(left, piece.Length);
                left -= taken;
                if (left == 0)
                {
                    files.Complete();
                }

                await answer.WriteAsync(piece[..taken]);
            }

            await answer.FlushAsync();
        }
        catch (Exception e) when (FileAnswerWriter.IsCut(e))
        {
            httpContext.Abort();
        }
    }

    /// <summary>Writes the headers that say which state of the file it is.</summary>
    public static void Describe(HttpResponse response, GuestFile file)
    {
        response.Headers.ETag = FileConditions.TagOf(file);
        response.Headers.LastModified = HeaderUtilities.FormatDate(file.ModifiedAt);
        response.Headers.AcceptRanges = "bytes";
        response.Headers["X-Pandora-Mode"] = FileEntries.ModeOf(file);
        // The bytes are the guest's: no browser may take them for a page.
        response.Headers.XContentTypeOptions = "nosniff";
    }

    /// <summary>The answer to a client that has the file.</summary>
    public static IResult NotModified(HttpResponse response, GuestFile file)
    {
        Describe(response, file);
        return TypedResults.StatusCode(StatusCodes.Status304NotModified);
    }

    /// <summary>The problem of a range behind the file's end.</summary>
    public static IResult OutOfRange(HttpResponse response, GuestFile file, PandoraException refusal)
    {
        response.Headers.ContentRange = string.Create(CultureInfo.InvariantCulture, $"bytes */{file.Size}");
        return Problems.Create(ErrorCodes.FileRange, refusal.Message);
    }
}

/// <summary>Writes the bytes of a file or an archive to a client, and waits for the client.</summary>
/// <param name="context">The request.</param>
internal sealed class FileAnswerWriter(HttpContext context)
{
    /// <summary>Longest that a client may take none of the bytes that wait for it: then it is disconnected.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    // Above it, the client is waited for.
    private const int SendFrom = 64 * 1024;
    private readonly TimeProvider _time = context.RequestServices.GetRequiredService<TimeProvider>();
    private int _unsent;

    /// <summary>Whether an error means that the answer ends here: the connection is then cut.</summary>
    public static bool IsCut(Exception exception) =>
        exception is PandoraException or IOException or OperationCanceledException or TimeoutException;

    /// <summary>Reads the next bytes, and sends those before them when the next ones must be waited for.</summary>
    /// <returns>Null at the end.</returns>
    public async ValueTask<ReadOnlyMemory<byte>?> NextAsync(SandboxFiles files)
    {
        var reading = files.ReadAsync(context.RequestAborted);
        if (!reading.IsCompleted && _unsent > 0)
        {
            var task = reading.AsTask();
            await FlushAsync();
            return (await task)?.Bytes;
        }

        return (await reading)?.Bytes;
    }

    /// <summary>Writes bytes.</summary>
    /// <exception cref="TimeoutException">The client takes nothing.</exception>
    public async ValueTask WriteAsync(ReadOnlyMemory<byte> bytes)
    {
        context.Response.BodyWriter.Write(bytes.Span);
        _unsent += bytes.Length;
        if (_unsent >= SendFrom)
        {
            await FlushAsync();
        }
    }

    /// <summary>Sends what was written.</summary>
    /// <exception cref="TimeoutException">The client takes nothing.</exception>
    public async ValueTask FlushAsync()
    {
        _unsent = 0;
        var flushing = context.Response.BodyWriter.FlushAsync(context.RequestAborted);
        if (!flushing.IsCompleted)
        {
            await flushing.AsTask().WaitAsync(Patience, _time, context.RequestAborted);
        }
        else
        {
            await flushing;
        }

        context.RequestAborted.ThrowIfCancellationRequested();
    }
}
