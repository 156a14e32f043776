using System.Globalization;

namespace Pandora.Cli;

/// <summary>Times as people write them: <c>90</c> or <c>90s</c>, <c>15m</c>, <c>1h</c>, <c>7d</c>.</summary>
internal static class Duration
{
    /// <summary>Reads the value of an option.</summary>
    /// <exception cref="UsageException">It is no time, or not more than zero.</exception>
    public static TimeSpan Parse(string option, string text)
    {
        var seconds = text.Length == 0 ? 0 : text[^1] switch { 's' => 1, 'm' => 60, 'h' => 3600, 'd' => 24 * 3600, _ => 0 };
        var number = seconds == 0 ? text : text[..^1];
        return double.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var value)
            && value * Math.Max(seconds, 1) is > 0 and < 1e9 and var total
            ? TimeSpan.FromSeconds(total)
            : throw new UsageException($"{option}: '{text}' is no time such as 90s, 15m, 1h or 7d");
    }
}
