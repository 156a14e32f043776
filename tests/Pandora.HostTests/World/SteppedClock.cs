using System.Globalization;

namespace Pandora.HostTests.World;

/// <summary>
/// A wall clock for one server, which a test sets as an operator or NTP sets a host's. Only that process loads the distribution's
/// libfaketime. Monotonic clocks do not change, and neither do the clocks of VMMs, which do not inherit the server's environment.
/// </summary>
internal sealed class SteppedClock
{
    private readonly string _offset;

    public SteppedClock(string directory)
    {
        _offset = Path.Combine(directory, "clock");
        Set(TimeSpan.Zero);
    }

    /// <summary>Whether the library is installed: <c>./pandora test</c> fetches it.</summary>
    public static bool IsAvailable => Library is { Length: > 0 };

    /// <summary>Environment variables for the server.</summary>
    public IReadOnlyDictionary<string, string> Settings => new Dictionary<string, string>
    {
        ["LD_PRELOAD"] = Library!,
        ["FAKETIME_TIMESTAMP_FILE"] = _offset,
        ["FAKETIME_CACHE_DURATION"] = "1",
        // Older versions read the second name. FORCE_MONOTONIC_FIX would break .NET's waits, which use the monotonic clock.
        ["FAKETIME_DONT_FAKE_MONOTONIC"] = "1",
        ["DONT_FAKE_MONOTONIC"] = "1",
        ["FAKETIME_FORCE_MONOTONIC_FIX"] = "0",
    };

    private static string? Library => Environment.GetEnvironmentVariable("PANDORA_TEST_FAKETIME");

    /// <summary>Sets the offset from the machine's clock. The server sees it within a second.</summary>
    public void Set(TimeSpan offset)
    {
        File.WriteAllText($"{_offset}.new", offset.TotalSeconds.ToString("+0;-0", CultureInfo.InvariantCulture));
        File.Move($"{_offset}.new", _offset, overwrite: true);
    }
}
