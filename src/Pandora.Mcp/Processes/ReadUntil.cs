using System.Text;
using Pandora.Engine;

namespace Pandora.Mcp.Processes;

/// <summary>When an answer with output comes.</summary>
internal sealed record ReadUntil
{
    /// <summary>The longest time that a call waits, in seconds: well within what clients wait for.</summary>
    public const double LongestWait = 45;

    private const int MaxText = 1000, MinChars = 200, MaxChars = 100_000, UsualChars = 16_000;

    /// <summary>When it comes in any case, counted from the beginning of the call.</summary>
    public required TimeSpan Deadline { get; init; }

    /// <summary>It comes when this was written.</summary>
    public byte[]? Text { get; init; }

    /// <summary>It comes when nothing was written for so long.</summary>
    public TimeSpan? Silence { get; init; }

    /// <summary>It comes when there is output, and nothing more for a moment.</summary>
    public bool StopsAtOutput { get; init; }

    /// <summary>It comes when this offset is reached.</summary>
    public long? To { get; init; }

    /// <summary>Checks how long a call waits.</summary>
    /// <exception cref="PandoraException">It is too long.</exception>
    public static TimeSpan WaitOf(double seconds) => seconds is >= 0 and <= LongestWait
        ? TimeSpan.FromSeconds(seconds)
        : throw PandoraException.Invalid("wait", $"must be between 0 and {LongestWait:0} seconds, and is {seconds}");

    /// <summary>Checks how much is shown.</summary>
    /// <exception cref="PandoraException">It is out of its range.</exception>
    public static int CharsOf(int? chars) => chars switch
    {
        null => UsualChars,
        >= MinChars and <= MaxChars => chars.Value,
        _ => throw PandoraException.Invalid("max_chars", $"must be between {MinChars} and {MaxChars}, and is {chars}"),
    };

    /// <summary>Checks the text that is waited for.</summary>
    /// <exception cref="PandoraException">It is empty or too long.</exception>
    public static byte[]? TextOf(string? text) => text switch
    {
        null => null,
        { Length: > 0 and <= MaxText } => Encoding.UTF8.GetBytes(text),
        _ => throw PandoraException.Invalid("until_text", $"must have 1 to {MaxText} characters"),
    };

    /// <summary>Checks the silence that is waited for.</summary>
    /// <exception cref="PandoraException">It is out of its range.</exception>
    public static TimeSpan? SilenceOf(double? seconds) => seconds switch
    {
        null => null,
        >= 0.1 and <= LongestWait => TimeSpan.FromSeconds(seconds.Value),
        _ => throw PandoraException.Invalid("until_silence", $"must be between 0.1 and {LongestWait:0} seconds, and is {seconds}"),
    };
}
