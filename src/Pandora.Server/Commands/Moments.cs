using System.CommandLine.Parsing;
using System.Globalization;

namespace Pandora.Server.Commands;

/// <summary>Reads moments from command lines: a time from now, such as <c>30d</c>, or a date.</summary>
internal static class Moments
{
    private static readonly string[] Formats =
    [
        "yyyy-MM-dd", "yyyy-MM-dd'T'HH:mm", "yyyy-MM-dd'T'HH:mm'Z'", "yyyy-MM-dd'T'HH:mm:ss", "yyyy-MM-dd'T'HH:mm:ss'Z'",
    ];

    /// <summary>Reads an option's value; adds an error to the result when it is none.</summary>
    /// <param name="result">The option.</param>
    /// <param name="time">The clock.</param>
    /// <param name="isAhead">Whether a time is counted into the future, and the moment must lie there; else both are past.</param>
    public static DateTimeOffset? Parse(ArgumentResult result, TimeProvider time, bool isAhead)
    {
        var (text, now) = (result.Tokens.Count == 1 ? result.Tokens[0].Value : "", time.GetUtcNow());
        var moment = Parse(text, now, isAhead);
        if (moment is null)
        {
            var option = (result.Parent as OptionResult)?.Option.Name;
            result.AddError($"{option}: '{text}' is neither a time such as 90m, 12h or 30d nor a moment such as 2027-01-31T12:00Z");
        }
        else if (isAhead && moment <= now)
        {
            result.AddError($"{(result.Parent as OptionResult)?.Option.Name}: {text} is in the past");
        }

        return moment;
    }

    internal static DateTimeOffset? Parse(string text, DateTimeOffset now, bool isAhead)
    {
        if (DateTimeOffset.TryParseExact(
            text, Formats, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out var moment))
        {
            return moment;
        }

        if (text.Length is < 2 or > 8 || !int.TryParse(text[..^1], NumberStyles.None, CultureInfo.InvariantCulture, out var count))
        {
            return null;
        }

        TimeSpan? span = text[^1] switch
        {
            's' => TimeSpan.FromSeconds(count),
            'm' => TimeSpan.FromMinutes(count),
            'h' => TimeSpan.FromHours(count),
            'd' => TimeSpan.FromDays(count),
            _ => null,
        };
        // Of a longer time, the moment could not be written as a date.
        return span is { TotalDays: <= 36_500 } length ? (isAhead ? now + length : now - length) : null;
    }
}
