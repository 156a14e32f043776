using System.Net.ServerSentEvents;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Microsoft.AspNetCore.Http.Json;
using Microsoft.Extensions.Options;
using Pandora.Contracts;
using Pandora.Engine.Guests.Files;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;

namespace Pandora.Server.Api.Files;

/// <summary>The changes below a directory as server-sent events, as they come. A client that does not read loses
/// some, and an event says so.</summary>
/// <param name="files">The watch, which is disposed of at the end.</param>
internal sealed class FileWatch(SandboxFiles files) : IResult
{
    private static readonly TimeSpan Heartbeat = TimeSpan.FromSeconds(15);

    /// <inheritdoc/>
    public async Task ExecuteAsync(HttpContext httpContext)
    {
        await using var disposing = files.ConfigureAwait(false);
        var (response, aborted) = (httpContext.Response, httpContext.RequestAborted);
        response.ContentType = EventStream.ContentType;
        EventStream.Prepare(response);
        if (HeadRequests.IsHead(httpContext))
        {
            return;
        }

        var services = httpContext.RequestServices;
        var encoder = services.GetRequiredService<IOptions<JsonOptions>>().Value.SerializerOptions.Encoder;
        var events = ReadAsync(services.GetRequiredService<Problems>(), services.GetRequiredService<TimeProvider>(), aborted);
        try
        {
            await SseFormatter.WriteAsync(
                events,
                response.Body,
                (item, writer) =>
                {
                    using var json = new Utf8JsonWriter(writer, new JsonWriterOptions { Encoder = encoder });
                    JsonSerializer.Serialize(json, item.Data, item.Data.GetType(), PandoraJson.Default);
                },
                aborted);
        }
        catch (Exception e) when (aborted.IsCancellationRequested || e is IOException)
        {
            // The client is gone.
        }
    }

    private async IAsyncEnumerable<SseItem<object>> ReadAsync(
        Problems problems, TimeProvider time, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        using var left = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Task<FilePiece?>? reading = null;
        try
        {
            while (true)
            {
                reading = files.ReadAsync(left.Token).AsTask();
                while (!await HasComeAsync(reading, time, cancellationToken))
                {
                    yield return new SseItem<object>(new FileChange(), FileEvents.Heartbeat);
                }

                var (piece, problem) = (default(FilePiece?), default(ApiProblem));
                try
                {
                    piece = await reading;
                }
                catch (Exception e) when (!cancellationToken.IsCancellationRequested)
                {
                    problem = problems.Describe(e);
                }

                if (problem is not null)
                {
                    yield return new SseItem<object>(problem, FileEvents.Error);
                    yield break;
                }

                if (piece is not { Change: { } change })
                {
                    yield break;
                }

                yield return new SseItem<object>(FileEntries.Of(change), Label.Of(change.Kind));
            }
        }
        finally
        {
            await left.CancelAsync();
            await ((Task?)reading ?? Task.CompletedTask).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    // False when nothing has come for a while.
    private static async Task<bool> HasComeAsync(Task reading, TimeProvider time, CancellationToken cancellationToken)
    {
        await reading.WaitAsync(Heartbeat, time, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        cancellationToken.ThrowIfCancellationRequested();
        return reading.IsCompleted;
    }
}
