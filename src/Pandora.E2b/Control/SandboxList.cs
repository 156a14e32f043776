using System.Globalization;
using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.WebUtilities;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;

namespace Pandora.E2b.Control;

/// <summary>Lists sandboxes by pages. The order is that of all sandboxes, so that a page goes on where the last one ended.</summary>
internal static class SandboxList
{
    /// <summary>What clients once needed. They still demand it.</summary>
    public const string ClientId = "pandora";

    private const string Running = "running", Paused = "paused";
    private const int MaxLimit = 100;

    /// <summary>Answers with a page.</summary>
    /// <exception cref="PandoraException">A parameter is invalid.</exception>
    public static IResult List(HttpRequest request, HttpResponse response, ProjectSandboxes sandboxes)
    {
        var query = request.Query;
        var states = StatesOf(query["state"].ToString());
        var metadata = MetadataOf(query["metadata"].ToString());
        var template = query["template"].ToString();
        var after = TimeOf(query["startedAfter"].ToString());
        var isAscending = IsAscending(query["order"].ToString());
        var found = sandboxes.List()
            .Where(s => states.Contains(Running))
            .Where(s => metadata.All(m => s.Metadata.TryGetValue(m.Key, out var value) && value == m.Value))
            .Where(s => template.Length == 0 || TemplateNames.Of(template) == s.Template)
            .Where(s => after is null || s.CreatedAt > after)
            .Select(s => (Status: s, Position: (s.CreatedAt.UtcTicks, s.Id)));
        found = isAscending ? found.OrderBy(f => f.Position) : found.OrderByDescending(f => f.Position);
        if (PositionOf(query["nextToken"].ToString()) is { } position)
        {
            found = found.Where(f => isAscending ? f.Position.CompareTo(position) > 0 : f.Position.CompareTo(position) < 0);
        }

        var limit = LimitOf(query["limit"].ToString());
        var page = found.Take(limit + 1).ToList();
        if (page.Count > limit)
        {
            page.RemoveAt(limit);
            response.Headers["X-Next-Token"] = TokenOf(page[^1].Position);
        }

        return ControlRequest.Json([.. page.Select(f => Describe(f.Status))], E2bJson.Default.SandboxDetailArray);
    }

    /// <summary>Describes a sandbox.</summary>
    public static SandboxDetail Describe(SandboxStatus status) => new(
        status.Template, status.Id, ClientId, TemplateNames.AliasOf(status.Template), status.CreatedAt.ToUniversalTime(),
        (status.Lifetime.EndsAt ?? DateTimeOffset.MaxValue).ToUniversalTime(), status.Size?.Vcpus ?? 0, status.Size?.MemoryMib ?? 0,
        status.Size?.DiskMib ?? 0, Running, E2bSandbox.EnvdVersion, status.Metadata);

    private static string[] StatesOf(string text)
    {
        var states = text.Split(',', StringSplitOptions.RemoveEmptyEntries);
        return states.FirstOrDefault(s => s is not (Running or Paused)) is { } unknown
            ? throw PandoraException.Invalid("state", $"'{unknown}' is no state: it is {Running} or {Paused}")
            : states.Length == 0 ? [Running, Paused] : states;
    }

    // A form in a query's value: what is left after both were decoded is decoded once more.
    private static List<KeyValuePair<string, string>> MetadataOf(string text) =>
    [
        .. QueryHelpers.ParseQuery(text).SelectMany(p => p.Value.Select(v =>
            KeyValuePair.Create(Uri.UnescapeDataString(p.Key), Uri.UnescapeDataString(v ?? "")))),
    ];

    private static DateTimeOffset? TimeOf(string text)
    {
        if (text.Length == 0)
        {
            return null;
        }

        return DateTimeOffset.TryParse(text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var time)
            ? time
            : throw PandoraException.Invalid("startedAfter", $"'{text}' is no time such as 2026-01-31T12:00:00Z");
    }

    private static bool IsAscending(string text) => text switch
    {
        "" or "desc" => false,
        "asc" => true,
        _ => throw PandoraException.Invalid("order", $"'{text}' is no order: it is asc or desc"),
    };

    private static int LimitOf(string text)
    {
        if (text.Length == 0)
        {
            return MaxLimit;
        }

        return int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var limit) && limit is >= 1 and <= MaxLimit
            ? limit
            : throw PandoraException.Invalid("limit", $"must be between 1 and {MaxLimit}");
    }

    private static string TokenOf((long Ticks, string Id) position) =>
        WebEncoders.Base64UrlEncode(Encoding.ASCII.GetBytes($"{position.Ticks}.{position.Id}"));

    private static (long, string)? PositionOf(string token)
    {
        if (token.Length == 0)
        {
            return null;
        }

        try
        {
            if (Encoding.ASCII.GetString(WebEncoders.Base64UrlDecode(token)).Split('.') is [var ticks, var id]
                && long.TryParse(ticks, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
            {
                return (number, id);
            }
        }
        catch (FormatException)
        {
            // The error below says it.
        }

        throw PandoraException.Invalid("nextToken", "is none that this server gave out");
    }
}
