using System.Globalization;
using System.Text.RegularExpressions;

namespace Pandora.Server.Api.Files;

/// <summary>A range of bytes that a client asks for (RFC 9110, section 14).</summary>
/// <param name="First">The first byte; negative for a number of bytes before the end.</param>
/// <param name="Length">Most bytes; null up to the end.</param>
internal readonly partial record struct FileRange(long First, long? Length)
{
    /// <summary>Reads the header <c>Range</c>.</summary>
    /// <returns>Null for none, for several, and for one that is no range of bytes: then the whole file is the answer.</returns>
    public static FileRange? Of(string? header)
    {
        if (header is null || RangePattern().Match(header) is not { Success: true } match)
        {
            return null;
        }

        var (first, last) = (NumberOf(match.Groups["first"]), NumberOf(match.Groups["last"]));
        return (first, last) switch
        {
            (null, null) => null,
            (null, { } count) => new FileRange(count == 0 ? long.MinValue : -count, count),
            ({ } from, null) => new FileRange(from, null),
            ({ } from, { } to) => to < from ? null : new FileRange(from, to - from == long.MaxValue ? null : to - from + 1),
        };
    }

    /// <summary>The range in a file of this size.</summary>
    /// <returns>Null when no byte of the file is in it.</returns>
    public (long First, long Length)? In(long size)
    {
        if (First == long.MinValue || First >= size)
        {
            return null;
        }

        var first = First < 0 ? Math.Max(0, size + First) : First;
        return (first, Math.Min(Length ?? long.MaxValue, size - first));
    }

    // A number that is too long for 64 bits lies behind the end of every file.
    private static long? NumberOf(Group digits)
    {
        if (digits.Length == 0)
        {
            return null;
        }

        return long.TryParse(digits.Value, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : long.MaxValue;
    }

    [GeneratedRegex("^\\s*bytes\\s*=\\s*(?<first>[0-9]*)\\s*-\\s*(?<last>[0-9]*)\\s*\\z", RegexOptions.IgnoreCase)]
    private static partial Regex RangePattern();
}
