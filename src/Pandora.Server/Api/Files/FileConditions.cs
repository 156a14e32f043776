using Microsoft.Extensions.Primitives;
using Microsoft.Net.Http.Headers;
using Pandora.Engine;
using Pandora.Engine.Guests.Files;

namespace Pandora.Server.Api.Files;

/// <summary>Conditions of requests for files (RFC 9110, section 13).</summary>
internal static class FileConditions
{
    /// <summary>The entity tag of a file.</summary>
    public static string TagOf(GuestFile file) => $"\"{file.Tag}\"";

    /// <summary>The condition under which a file is written, as <see cref="FileSpec.Condition"/>.</summary>
    /// <exception cref="PandoraException">The headers have a form that this route does not take.</exception>
    public static string? OfWrite(IHeaderDictionary headers)
    {
        var (match, none) = (Read(headers.IfMatch, "If-Match"), Read(headers.IfNoneMatch, "If-None-Match"));
        return (match, none) switch
        {
            (null, null) => null,
            (not null, not null) => throw PandoraException.Invalid("If-Match", "cannot be given together with If-None-Match"),
            (null, [{ Tag.Value: "*" }]) => "",
            (null, _) => throw PandoraException.Invalid("If-None-Match", "must be * for a file that is written: it must not exist"),
            ([{ Tag.Value: "*" }], null) => "*",
            ([{ IsWeak: false } tag], null) => tag.Tag.Value!.Trim('"') is { Length: > 0 } text and not "*"
                ? text
                : throw PandoraException.Invalid("If-Match", "must be one strong entity tag, or *"),
            _ => throw PandoraException.Invalid("If-Match", "must be one strong entity tag, or *"),
        };
    }

    /// <summary>Refuses what a route that changes files does not read: a client that sends it would lose what it means to keep.</summary>
    /// <exception cref="PandoraException">A header is given.</exception>
    public static void Refuse(IHeaderDictionary headers, params ReadOnlySpan<string> names)
    {
        foreach (var name in names)
        {
            if (headers.ContainsKey(name))
            {
                throw PandoraException.Invalid(name, "is not honoured by this route: leave it out");
            }
        }
    }

    /// <summary>Whether the file is not the one that the client wants: 412.</summary>
    public static bool IsRefused(IHeaderDictionary headers, GuestFile file)
    {
        if (Read(headers.IfMatch, "If-Match") is { } tags)
        {
            return !tags.Any(t => t.Tag == "*" || (!t.IsWeak && t.Tag == TagOf(file)));
        }

        // Section 13.1.4: a text that is no date does not count. Dates have whole seconds.
        return HeaderUtilities.TryParseDate(headers.IfUnmodifiedSince.ToString(), out var date)
            && file.ModifiedAt.ToUnixTimeSeconds() > date.ToUnixTimeSeconds();
    }

    /// <summary>Whether the client has the file already: 304. A file of size 0 may be one of /proc, whose content changes and whose tag
    /// does not.</summary>
    public static bool IsKnown(IHeaderDictionary headers, GuestFile file) =>
        file.Size > 0 && Read(headers.IfNoneMatch, "If-None-Match") is { } tags && tags.Any(t => t.Tag == "*" || t.Tag == TagOf(file));

    /// <summary>Whether the client's part belongs to this file, so that the range may be sent. A date says too little to be sure.</summary>
    public static bool MayBeRange(IHeaderDictionary headers, GuestFile file) =>
        headers.IfRange is not { Count: > 0 } range || range.ToString().Trim() == TagOf(file);

    private static IList<EntityTagHeaderValue>? Read(StringValues header, string name)
    {
        if (header.Count == 0)
        {
            return null;
        }

        return EntityTagHeaderValue.TryParseList(header, out var tags) && tags.Count > 0
            ? tags
            : throw PandoraException.Invalid(name, "must be entity tags in quotes, or *");
    }
}
