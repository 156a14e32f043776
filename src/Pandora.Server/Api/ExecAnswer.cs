using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.AspNetCore.Http.Json;
using Microsoft.Extensions.Options;
using Pandora.Contracts;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;
using Pandora.Server.Hosting;

namespace Pandora.Server.Api;

/// <summary>
/// The answer to an exec: <see cref="ExecResponse"/>, or a problem when the command ran into its timeout. It is written in pieces from the
/// output's bytes as the client reads, so the output is in memory only once. A client that reads too slowly is disconnected.
/// </summary>
internal sealed partial class ExecAnswer(string id, Execution execution, double timeout, bool asBase64) : IResult
{
    private const int FlushFrom = 16 * 1024, BytesAtOnce = 12 * 1024;
    private bool _isLossy;

    public async Task ExecuteAsync(HttpContext httpContext)
    {
        var services = httpContext.RequestServices;
        var pace = new ReadingPace(services.GetRequiredService<TimeProvider>());
        var encoder = services.GetRequiredService<IOptions<JsonOptions>>().Value.SerializerOptions.Encoder;
        try
        {
            await WriteAsync(httpContext, encoder, pace);
        }
        catch (Exception e) when (e is TimeoutException || httpContext.RequestAborted.IsCancellationRequested)
        {
            execution.RecordLost();
            var why = e is TimeoutException
                ? "the client reads too slowly"
                : "the connection was closed, by the client or by the web server because the client reads too slowly";
            LogCut(services.GetRequiredService<ILogger<Problems>>(), id, pace.Written, why);
            httpContext.Abort();
        }
        finally
        {
            // Before the end of the answer is sent: a client that has the whole answer can run its next command at once.
            var held = execution.Result.Stdout.Length + execution.Result.Stderr.Length;
            execution.Dispose();
            services.GetService<MemoryReturn>()?.Released(held);
        }
    }

    private async Task WriteAsync(HttpContext httpContext, JavaScriptEncoder? encoder, ReadingPace pace)
    {
        var result = execution.Result;
        var response = httpContext.Response;
        (response.StatusCode, response.ContentType) = result.Stopped is null
            ? (200, "application/json; charset=utf-8")
            : (ErrorCodes.ExecTimeout.Status, "application/problem+json");
        var json = new Utf8JsonWriter(response.BodyWriter, new JsonWriterOptions { Encoder = encoder });
        await using (json.ConfigureAwait(false))
        {
            json.WriteStartObject();
            if (result.Stopped is { } stopped)
            {
                json.WriteString("title", ErrorCodes.ExecTimeout.Title);
                json.WriteNumber("status", ErrorCodes.ExecTimeout.Status);
                json.WriteString("detail", $"the command ran into its timeout of {timeout:0.###} s; {stopped.Words}");
                json.WriteString("code", ErrorCodes.ExecTimeout.Code);
                json.WriteString("command", Label.Of(stopped.Outcome));
            }
            else
            {
                json.WriteString("sandbox_id", id);
                json.WriteNumber("exit_code", result.ExitCode);
            }

            await WriteOutputAsync(httpContext, json, "stdout", result.Stdout, pace);
            await WriteOutputAsync(httpContext, json, "stderr", result.Stderr, pace);
            if (result.Stopped is null)
            {
                json.WriteNumber("exec_ms", Math.Round(execution.Elapsed.TotalMilliseconds, 3));
            }

            WriteFlag(json, "truncated", result.IsTruncated);
            WriteFlag(json, "lossy", _isLossy);
            if (result.OomLimit is { } limit)
            {
                json.WriteBoolean("oom", true);
                json.WriteNumber("memory_limit_bytes", limit);
            }

            WriteFlag(json, "disk_lost_data", execution.HasLostData);
            json.WriteEndObject();
            json.Flush();
        }

        await pace.FlushAsync(response.BodyWriter, json.BytesCommitted, httpContext.RequestAborted);
    }

    // The client of the original service accepts no member that it does not know.
    private static void WriteFlag(Utf8JsonWriter json, string name, bool value)
    {
        if (value)
        {
            json.WriteBoolean(name, true);
        }
    }

    private async ValueTask WriteOutputAsync(
        HttpContext httpContext, Utf8JsonWriter json, string name, GuestOutput output, ReadingPace pace)
    {
        json.WritePropertyName(name);
        if (asBase64)
        {
            foreach (var piece in output.ReadBytes())
            {
                for (var rest = piece; !rest.IsEmpty; rest = rest[Math.Min(BytesAtOnce, rest.Length)..])
                {
                    json.WriteBase64StringSegment(rest.Span[..Math.Min(BytesAtOnce, rest.Length)], isFinalSegment: false);
                    await FlushAsync(httpContext, json, pace);
                }
            }

            json.WriteBase64StringSegment([], isFinalSegment: true);
            return;
        }

        foreach (var piece in output.ReadText(() => _isLossy = true))
        {
            json.WriteStringValueSegment(piece.Span, isFinalSegment: false);
            await FlushAsync(httpContext, json, pace);
        }

        json.WriteStringValueSegment(ReadOnlySpan<char>.Empty, isFinalSegment: true);
    }

    private static async ValueTask FlushAsync(HttpContext httpContext, Utf8JsonWriter json, ReadingPace pace)
    {
        if (json.BytesCommitted + json.BytesPending - pace.Written >= FlushFrom)
        {
            json.Flush();
            await pace.FlushAsync(httpContext.Response.BodyWriter, json.BytesCommitted, httpContext.RequestAborted);
        }
    }

    [LoggerMessage(
        Level = LogLevel.Information,
        Message = "A result of {SandboxId} did not reach its client, which read {Bytes} bytes of it: {Reason}")]
    private static partial void LogCut(ILogger logger, string sandboxId, long bytes, string reason);
}
