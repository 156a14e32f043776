using System.Buffers;
using System.Net.ServerSentEvents;
using System.Runtime.CompilerServices;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Http.Json;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Microsoft.Extensions.Options;
using Pandora.Contracts;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;

namespace Pandora.Server.Api;

/// <summary>
/// A process's output as server-sent events, as it comes. A client that does not read makes the process wait; it is not disconnected for
/// that. The process is disposed of at the end.
/// </summary>
/// <param name="process">The process.</param>
/// <param name="asBase64">Whether output is written as base64.</param>
internal sealed class EventStream(SandboxProcess process, bool asBase64) : IResult
{
    /// <summary>The type of the stream.</summary>
    public const string ContentType = "text/event-stream";

    private static readonly TimeSpan Heartbeat = TimeSpan.FromSeconds(15);

    /// <summary>Input that is written while the output is read.</summary>
    public ReadOnlyMemory<byte> Input { get; init; }

    /// <summary>Offset at which the stream begins.</summary>
    public long From { get; init; }

    /// <summary>Offset at which the stream ends although the process runs; null to follow it.</summary>
    public long? PauseAt { get; init; }

    /// <summary>Whether the client prefers a stream of events.</summary>
    public static bool IsWanted(HttpRequest request) => request.GetTypedHeaders().Accept
        .Any(a => a.MediaType.Equals(ContentType, StringComparison.OrdinalIgnoreCase) && a.Quality is not 0);

    /// <summary>Lets an answer take as long as its client and its process do.</summary>
    public static void Prepare(HttpResponse response)
    {
        response.Headers.CacheControl = "no-cache, no-store";
        // nginx then passes on what comes at once.
        response.Headers["X-Accel-Buffering"] = "no";
        response.HttpContext.Features.GetRequiredFeature<IHttpResponseBodyFeature>().DisableBuffering();
        if (response.HttpContext.Features.Get<IHttpMinResponseDataRateFeature>() is { } rate)
        {
            rate.MinDataRate = null;
        }
    }

    /// <inheritdoc/>
    public async Task ExecuteAsync(HttpContext httpContext)
    {
        await using var disposing = process.ConfigureAwait(false);
        var response = httpContext.Response;
        var aborted = httpContext.RequestAborted;
        response.ContentType = ContentType;
        Prepare(response);
        if (HeadRequests.IsHead(httpContext))
        {
            return;
        }

        var services = httpContext.RequestServices;
        var encoder = services.GetRequiredService<IOptions<JsonOptions>>().Value.SerializerOptions.Encoder;
        var events = ReadAsync(services.GetRequiredService<Problems>(), services.GetRequiredService<TimeProvider>(), aborted);
        var feeding = FeedAsync();
        try
        {
            await SseFormatter.WriteAsync(events, response.Body, (item, writer) => Write(item.Data, writer, encoder), aborted);
        }
        catch (Exception e) when (aborted.IsCancellationRequested || e is IOException)
        {
            // The client is gone.
        }
        finally
        {
            // It ends the feeding, too. Cut in the middle of a message, the input would keep a kill from reaching the guest.
            await process.DisposeAsync();
            await feeding;
        }
    }

    private async Task FeedAsync()
    {
        if (Input.IsEmpty)
        {
            return;
        }

        try
        {
            await process.WriteInputAsync(Input, CancellationToken.None);
            await process.EndInputAsync(CancellationToken.None);
        }
        catch (Exception e) when (e is Engine.PandoraException or OperationCanceledException or ObjectDisposedException)
        {
            // The process has ended, or the reader finds out why the guest does not answer.
        }
    }

    private async IAsyncEnumerable<SseItem<ProcessEvent>> ReadAsync(
        Problems problems, TimeProvider time, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var from = From < 0 ? process.Facts.OutputEnd : From;
        yield return Item(ProcessEvents.Started, new ProcessEvent { Value = new StartedEvent(process.Id, process.Pid, from) });
        var texts = new OutputTexts(asBase64, from);
        var pieces = new List<OutputPiece>();
        using var left = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Task<ProcessOutput?>? reading = null;
        try
        {
            for (var isOver = PauseAt <= from; !isOver;)
            {
                reading = process.ReadAsync(left.Token).AsTask();
                while (!await HasComeAsync(reading, time, cancellationToken))
                {
                    yield return Item(ProcessEvents.Heartbeat, default);
                }

                var (output, problem) = (default(ProcessOutput?), default(ApiProblem));
                try
                {
                    output = await reading;
                }
                catch (Exception e) when (!cancellationToken.IsCancellationRequested)
                {
                    problem = problems.Describe(e);
                }

                if (problem is not null)
                {
                    yield return Item(ProcessEvents.Error, new ProcessEvent { Value = problem });
                    yield break;
                }

                isOver = output is null;
                texts.Take(output, process.End?.Offset, pieces);
                foreach (var piece in pieces)
                {
                    yield return piece.Dropped is { } dropped
                        ? Item(ProcessEvents.Dropped, new ProcessEvent { Value = dropped }, dropped.To)
                        : Item(piece.Stream, new ProcessEvent { Output = piece }, piece.Offset + piece.Bytes.Length);
                }

                // Of a character that is cut there, the rest may never come.
                isOver |= texts.ReadTo >= PauseAt && process.End is null;
            }
        }
        finally
        {
            // One caller at a time may read, and the next one kills the process.
            await left.CancelAsync();
            await ((Task?)reading ?? Task.CompletedTask).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        yield return process.End is { } end
            ? Item(ProcessEvents.Exited, new ProcessEvent { Value = ExitOf(end, texts.Offset) }, texts.Offset)
            : Item(ProcessEvents.Paused, new ProcessEvent { Value = new DroppedEvent(texts.Offset, texts.Offset) }, texts.Offset);
    }

    // False when nothing has come for a while.
    private static async Task<bool> HasComeAsync(Task reading, TimeProvider time, CancellationToken cancellationToken)
    {
        await reading.WaitAsync(Heartbeat, time, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        cancellationToken.ThrowIfCancellationRequested();
        return reading.IsCompleted;
    }

    /// <summary>The event of a process's end.</summary>
    internal static ExitedEvent ExitOf(ProcessEnd end, long offset, SandboxProcess process) => new(
        end.ExitCode, end.Offset ?? offset,
        process.Elapsed is { } elapsed ? Math.Round(elapsed.TotalMilliseconds, 3) : null,
        end.Stopped is null ? null : true,
        end.Stopped is { } stopped ? Label.Of(stopped.Outcome) : null,
        end.OomLimit is null ? null : true,
        end.OomLimit,
        process.HasLostData ? true : null);

    private ExitedEvent ExitOf(ProcessEnd end, long offset) => ExitOf(end, offset, process);

    private static SseItem<ProcessEvent> Item(string type, ProcessEvent data, long? id = null) =>
        new(data, type) { EventId = id is { } offset ? $"{offset}" : null };

    private void Write(ProcessEvent data, IBufferWriter<byte> writer, JavaScriptEncoder? encoder)
    {
        if (data.Output is not { } output)
        {
            if (data.Value is null)
            {
                writer.Write("{}"u8);
                return;
            }

            using var value = new Utf8JsonWriter(writer, new JsonWriterOptions { Encoder = encoder });
            JsonSerializer.Serialize(value, data.Value, data.Value.GetType(), PandoraJson.Default);
            return;
        }

        using var json = new Utf8JsonWriter(writer, new JsonWriterOptions { Encoder = encoder });
        json.WriteStartObject();
        json.WriteNumber("offset", output.Offset);
        if (asBase64)
        {
            json.WriteBase64String("data", output.Bytes.Span);
        }
        else if (output.IsLossy)
        {
            json.WriteString("data", System.Text.Encoding.UTF8.GetString(output.Bytes.Span));
            json.WriteBoolean("lossy", true);
        }
        else
        {
            json.WriteString("data", output.Bytes.Span);
        }

        json.WriteEndObject();
    }

    /// <summary>Data of one event: output, or a record.</summary>
    private readonly record struct ProcessEvent
    {
        public OutputPiece? Output { get; init; }

        public object? Value { get; init; }
    }
}
