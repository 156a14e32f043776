using System.Buffers.Binary;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Microsoft.Extensions.Primitives;

namespace Pandora.E2b.Connect;

/// <summary>
/// A call of the Connect protocol with JSON (connectrpc.com, "Protocol reference"): one request, and one answer or a stream of them. A
/// message of a stream has five bytes before it: flags, and its length with the most significant byte first.
/// </summary>
internal sealed class ConnectCall(HttpContext context)
{
    /// <summary>Type of calls with one answer.</summary>
    public const string UnaryType = "application/json";

    /// <summary>Type of calls with a stream of answers. Some clients accept no parameters after it.</summary>
    public const string StreamType = "application/connect+json";

    private const byte Compressed = 1, EndOfStreamFlag = 2;
    // A command of 1 MiB with its environment, and more.
    private const int FrameHeader = 5, UsualMessage = 2 * 1024 * 1024;

    /// <summary>Most bytes of a message with input for a process: ten million bytes as base64, and more.</summary>
    public const int MaxInputMessage = 16 * 1024 * 1024;

    /// <summary>Longest time that a client may give to a call.</summary>
    public static readonly TimeSpan MaxTimeout = TimeSpan.FromDays(24);

    /// <summary>The request.</summary>
    public HttpContext Context => context;

    /// <summary>Time that the client gives to the call; null for no limit.</summary>
    /// <exception cref="ConnectException">It is no number of milliseconds.</exception>
    public TimeSpan? Timeout
    {
        get
        {
            var header = context.Request.Headers["Connect-Timeout-Ms"].ToString();
            if (header.Length == 0 || header == "0")
            {
                return null;
            }

            return header.Length <= 10 && long.TryParse(header, NumberStyles.None, CultureInfo.InvariantCulture, out var milliseconds)
                && TimeSpan.FromMilliseconds(milliseconds) is var timeout && timeout <= MaxTimeout
                    ? timeout
                    : throw new ConnectException(
                        ConnectCode.InvalidArgument, "Connect-Timeout-Ms must be a number of milliseconds, at most 24 days");
        }
    }

    /// <summary>Time without a message after which the stream sends one that says nothing.</summary>
    private TimeSpan KeepaliveInterval
    {
        get
        {
            var header = context.Request.Headers["Keepalive-Ping-Interval"].ToString();
            return int.TryParse(header, NumberStyles.None, CultureInfo.InvariantCulture, out var seconds)
                ? TimeSpan.FromSeconds(Math.Clamp(seconds, 1, 3600))
                : TimeSpan.FromSeconds(90);
        }
    }

    /// <summary>Whether the client asks for a stream.</summary>
    public bool IsStream => TypeOf(context.Request) == StreamType;

    /// <summary>Reads the request.</summary>
    /// <exception cref="ConnectException">It is not the message.</exception>
    /// <param name="type">The message.</param>
    /// <param name="mostBytes">Most bytes of it.</param>
    public async Task<T> ReadAsync<T>(JsonTypeInfo<T> type, int mostBytes = UsualMessage)
    {
        var body = await ReadBodyAsync(mostBytes);
        if (IsStream)
        {
            if (body.Length < FrameHeader || BinaryPrimitives.ReadUInt32BigEndian(body.AsSpan(1)) != body.Length - FrameHeader)
            {
                throw new ConnectException(ConnectCode.InvalidArgument, "the body is not one message of the Connect protocol");
            }

            if ((body[0] & Compressed) != 0)
            {
                throw new ConnectException(ConnectCode.Unimplemented, "compressed messages are not supported");
            }

            body = body[FrameHeader..];
        }

        try
        {
            return (body.Length == 0 ? JsonSerializer.Deserialize("{}"u8, type) : JsonSerializer.Deserialize(body, type))
                ?? throw new ConnectException(ConnectCode.InvalidArgument, "the message must be a JSON object");
        }
        catch (JsonException e)
        {
            throw new ConnectException(
                ConnectCode.InvalidArgument, $"the message cannot be read{(e.Path is { Length: > 2 } path ? $" at {path[2..]}" : "")}");
        }
    }

    /// <summary>Answers a call that has one answer.</summary>
    public Task AnswerAsync<T>(T message, JsonTypeInfo<T> type) =>
        context.Response.WriteAsJsonAsync(message, type, UnaryType, context.RequestAborted);

    /// <summary>Begins the stream of answers.</summary>
    /// <exception cref="ConnectException">The client did not ask for a stream.</exception>
    public Task BeginAsync()
    {
        if (!IsStream)
        {
            throw new ConnectException(ConnectCode.InvalidArgument, $"this call answers with a stream: send it as {StreamType}");
        }

        var response = context.Response;
        response.ContentType = StreamType;
        response.Headers.CacheControl = "no-cache, no-store";
        response.Headers["X-Accel-Buffering"] = "no";
        context.Features.GetRequiredFeature<IHttpResponseBodyFeature>().DisableBuffering();
        if (context.Features.Get<IHttpMinResponseDataRateFeature>() is { } rate)
        {
            rate.MinDataRate = null;
        }

        return response.StartAsync(context.RequestAborted);
    }

    /// <summary>Sends a message of the stream.</summary>
    public Task SendAsync<T>(T message, JsonTypeInfo<T> type) => WriteFrameAsync(0, JsonSerializer.SerializeToUtf8Bytes(message, type));

    /// <summary>Waits for what comes next, for the time after which the stream must say something.</summary>
    /// <returns>False when nothing has come.</returns>
    /// <exception cref="OperationCanceledException">The client is gone.</exception>
    public async Task<bool> HasComeAsync(Task next, TimeProvider time)
    {
        await next.WaitAsync(KeepaliveInterval, time, context.RequestAborted).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        context.RequestAborted.ThrowIfCancellationRequested();
        return next.IsCompleted;
    }

    /// <summary>Ends the stream.</summary>
    /// <param name="error">Why it failed; null when it did not.</param>
    public Task EndAsync(ConnectException? error = null) => WriteFrameAsync(
        EndOfStreamFlag, JsonSerializer.SerializeToUtf8Bytes(new EndOfStream(error?.ToMessage()), E2bJson.Default.EndOfStream));

    /// <summary>Answers with an error, as the client expects it.</summary>
    public async Task FailAsync(ConnectException error)
    {
        if (IsStream)
        {
            if (!context.Response.HasStarted)
            {
                await BeginAsync();
            }

            await EndAsync(error);
            return;
        }

        context.Response.StatusCode = error.Status;
        await context.Response.WriteAsJsonAsync(error.ToMessage(), E2bJson.Default.ConnectError, UnaryType, context.RequestAborted);
    }

    /// <summary>Refuses types and codings that this server cannot read.</summary>
    /// <exception cref="ConnectException">The call cannot be read.</exception>
    public void Check()
    {
        var headers = context.Request.Headers;
        if (TypeOf(context.Request) is not (UnaryType or StreamType))
        {
            throw new ConnectException(
                ConnectCode.Unimplemented,
                $"the Content-Type must be {UnaryType}, or {StreamType} for a stream: other codecs are not supported");
        }

        if (!IsIdentity(headers.ContentEncoding) || !IsIdentity(headers["Connect-Content-Encoding"]))
        {
            throw new ConnectException(ConnectCode.Unimplemented, "compressed messages are not supported");
        }
    }

    private static bool IsIdentity(StringValues value) => value.ToString() is "" or "identity";

    private static string TypeOf(HttpRequest request) => (request.ContentType ?? "").Split(';')[0].Trim().ToLowerInvariant();

    private async Task<byte[]> ReadBodyAsync(int mostBytes)
    {
        using var body = new MemoryStream();
        var buffer = new byte[16 * 1024];
        while (await context.Request.Body.ReadAsync(buffer, context.RequestAborted) is var count && count > 0)
        {
            if (body.Length + count > mostBytes)
            {
                throw new ConnectException(ConnectCode.ResourceExhausted, $"this message is at most {mostBytes} bytes");
            }

            body.Write(buffer, 0, count);
        }

        return body.ToArray();
    }

    private async Task WriteFrameAsync(byte flags, byte[] message)
    {
        var writer = context.Response.BodyWriter;
        var header = writer.GetSpan(FrameHeader);
        header[0] = flags;
        BinaryPrimitives.WriteUInt32BigEndian(header[1..], (uint)message.Length);
        writer.Advance(FrameHeader);
        await writer.WriteAsync(message, context.RequestAborted);
        await writer.FlushAsync(context.RequestAborted);
        context.RequestAborted.ThrowIfCancellationRequested();
    }
}
