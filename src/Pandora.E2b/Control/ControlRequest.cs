using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Pandora.Engine;

namespace Pandora.E2b.Control;

/// <summary>Reads and answers requests of the control API.</summary>
internal static class ControlRequest
{
    /// <summary>The longest time that a sandbox may be asked to live from now on.</summary>
    public static readonly TimeSpan MaxTimeout = TimeSpan.FromHours(24);

    /// <summary>Reads the body, which may be missing where <paramref name="fallback"/> is given.</summary>
    /// <exception cref="PandoraException">The body is not the message; a member that this server does not know is refused.</exception>
    public static async Task<T> ReadAsync<T>(HttpRequest request, JsonTypeInfo<T> type, T? fallback = null)
        where T : class
    {
        using var body = new MemoryStream();
        await request.Body.CopyToAsync(body, request.HttpContext.RequestAborted);
        if (body.Length == 0 && fallback is not null)
        {
            return fallback;
        }

        try
        {
            return JsonSerializer.Deserialize(body.GetBuffer().AsSpan(0, (int)body.Length), type)
                ?? throw PandoraException.Invalid("body", "must be a JSON object");
        }
        catch (JsonException e)
        {
            var field = e.Path is { Length: > 2 } path ? path[2..] : "body";
            throw PandoraException.Invalid(
                field,
                e.Message.Contains("could not be mapped", StringComparison.Ordinal)
                    ? "this server does not support it"
                    : "has the wrong type, or is not valid JSON");
        }
    }

    /// <summary>Answers with a message.</summary>
    public static IResult Json<T>(T message, JsonTypeInfo<T> type, int status = StatusCodes.Status200OK) =>
        TypedResults.Text(JsonSerializer.Serialize(message, type), "application/json", statusCode: status);

    /// <summary>Reads a time in seconds.</summary>
    /// <exception cref="PandoraException">It is none from 0 to 24 hours.</exception>
    public static TimeSpan TimeOf(double seconds, string field = "timeout")
    {
        if (!(seconds >= 0))
        {
            throw PandoraException.Invalid(field, $"must be at least 0 seconds, and is {seconds}");
        }

        return seconds <= MaxTimeout.TotalSeconds
            ? TimeSpan.FromSeconds(seconds)
            : throw PandoraException.Invalid(field, $"Timeout cannot be greater than {MaxTimeout.TotalHours:0} hours");
    }
}
