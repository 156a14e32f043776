namespace Pandora.Client;

/// <summary>Times on the wire are numbers; any number becomes a <see cref="TimeSpan"/>, at most the largest.</summary>
internal static class WireTime
{
    public static TimeSpan Seconds(double seconds) =>
        TimeSpan.FromSeconds(Math.Clamp(seconds, 0, TimeSpan.MaxValue.TotalSeconds / 2));

    public static TimeSpan Milliseconds(double milliseconds) => Seconds(milliseconds / 1000);
}
