using System.Buffers;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;

namespace Pandora.Server.Api;

/// <summary>
/// A process's output as raw bytes. It cannot say that output is missing, or why it ends: then the connection is cut, which is no regular
/// end of the answer.
/// </summary>
/// <param name="process">The process, which is disposed of at the end.</param>
internal sealed class RawOutput(SandboxProcess process) : IResult
{
    /// <summary>The type of the answer.</summary>
    public const string ContentType = "application/octet-stream";

    private const int SendFrom = 256 * 1024;

    /// <summary>Offset at which it begins; -1 for what comes from now on.</summary>
    public long From { get; init; }

    /// <summary>Offset at which it ends although the process runs; null to follow it.</summary>
    public long? PauseAt { get; init; }

    /// <summary>The output that is wanted; null for both.</summary>
    public OutputStream? Only { get; init; }

    /// <summary>Whether the client prefers raw bytes.</summary>
    public static bool IsWanted(HttpRequest request) => request.GetTypedHeaders().Accept
        .Any(a => a.MediaType.Equals(ContentType, StringComparison.OrdinalIgnoreCase) && a.Quality is not 0);

    /// <summary>The output of a name.</summary>
    public static OutputStream? StreamOf(string? name) => name switch
    {
        ProcessEvents.Stdout => OutputStream.Stdout,
        ProcessEvents.Stderr => OutputStream.Stderr,
        _ => null,
    };

    /// <inheritdoc/>
    public async Task ExecuteAsync(HttpContext httpContext)
    {
        await using var disposing = process.ConfigureAwait(false);
        var (response, aborted, unsent) = (httpContext.Response, httpContext.RequestAborted, 0);
        var offset = From < 0 ? process.Facts.OutputEnd : Math.Max(From, process.Facts.OutputBegin);
        response.ContentType = ContentType;
        response.Headers["Pandora-Offset"] = $"{offset}";
        EventStream.Prepare(response);
        if (HeadRequests.IsHead(httpContext))
        {
            return;
        }

        try
        {
            // A quiet process must not hold back the headers.
            await response.StartAsync(aborted);
            await response.BodyWriter.FlushAsync(aborted);
            while (!(offset >= PauseAt))
            {
                var reading = process.ReadAsync(aborted);
                // What comes without a wait is sent together.
                if (unsent > 0 && (unsent >= SendFrom || !reading.IsCompleted))
                {
                    await response.BodyWriter.FlushAsync(aborted);
                    unsent = 0;
                }

                if (await reading is not { } output)
                {
                    break;
                }

                if (output.Offset != offset)
                {
                    httpContext.Abort();
                    return;
                }

                offset += output.Bytes.Length;
                if (Only is null || output.Stream == Only)
                {
                    response.BodyWriter.Write(output.Bytes.Span);
                    unsent += output.Bytes.Length;
                }
            }

            if (process.End?.Offset is { } last && last != offset)
            {
                httpContext.Abort();
            }
        }
        catch (Exception e) when (e is PandoraException or IOException or OperationCanceledException)
        {
            httpContext.Abort();
        }
    }
}
