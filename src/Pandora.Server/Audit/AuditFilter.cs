using System.Globalization;
using Pandora.Engine;
using Pandora.Engine.Telemetry;

namespace Pandora.Server.Audit;

/// <summary>Which lines of the audit are wanted; null stands for all.</summary>
internal sealed record AuditFilter
{
    private static readonly string[] Formats =
        ["yyyy-MM-dd", "yyyy-MM-dd'T'HH:mmK", "yyyy-MM-dd'T'HH:mm:ssK", "yyyy-MM-dd'T'HH:mm:ss.FFFFFFFK"];

    /// <summary>The operations that a line may have.</summary>
    public static IReadOnlyList<string> Operations { get; } = [.. Label.All<AuditOperation>(), AuditRecord.LostLines];

    public string? Project { get; init; }

    public string? Sandbox { get; init; }

    public string? Operation { get; init; }

    /// <summary>Name or id of the key.</summary>
    public string? Key { get; init; }

    public DateTimeOffset? Since { get; init; }

    public DateTimeOffset? Until { get; init; }

    /// <summary>Whether a line is of the wanted time.</summary>
    public bool IsInTime(AuditRecord line) => !(line.Time < Since) && !(line.Time > Until);

    /// <summary>Whether a line is wanted.</summary>
    public bool IsWanted(AuditRecord line) =>
        IsInTime(line)
        && (Project is null || line.Project == Project)
        && (Sandbox is null || line.Sandbox == Sandbox)
        && (Operation is null || line.Operation == Operation)
        && (Key is null || line.Key == Key || line.KeyId == Key);

    /// <summary>Reads a time: <c>30m</c> ago (s, m, h, d), a day, or a time of ISO 8601, which is UTC unless it says otherwise.</summary>
    /// <returns>Null when it is neither.</returns>
    public static DateTimeOffset? ParseTime(string text, DateTimeOffset now)
    {
        if (AgeOf(text) is { } age)
        {
            return now - DateTimeOffset.MinValue > age ? now - age : DateTimeOffset.MinValue;
        }

        return DateTimeOffset.TryParseExact(
            text, Formats, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var time) ? time : null;
    }

    private static TimeSpan? AgeOf(string text)
    {
        if (text.Length < 2 || !int.TryParse(text[..^1], NumberStyles.None, CultureInfo.InvariantCulture, out var count))
        {
            return null;
        }

        long? seconds = text[^1] switch
        {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86400,
            _ => null,
        };
        // A TimeSpan cannot be much longer.
        return seconds is null ? null : TimeSpan.FromSeconds(Math.Min(count * seconds.Value, 3_000_000 * 86400L));
    }
}
