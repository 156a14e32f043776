using System.Globalization;

namespace Pandora.HostTests.World;

/// <summary>
/// A wall clock of one server's own, which a test sets as an operator or NTP sets a host's: the distribution's libfaketime before that
/// process alone. Monotonic clocks go on as they are, and VMMs, whose environment is not the server's, see none of it.
/// </summary>
internal sealed class SteppedClock
{
    private readonly string _offset;

    public SteppedClock(string directory)
    {
        _offset = Path.Combine(directory, "clock");
        Set(TimeSpan.Zero);
    }

    /// <summary>Whether the library is there: <c>./pandora test</c> fetches it.</summary>
    public static bool IsAvailable => Library is { Length: > 0 };

    /// <summary>What the server is started with.</summary>
    public IReadOnlyDictionary<string, string> Settings => new Dictionary<string, string>
    {
        ["LD_PRELOAD"] = Library!,
        ["FAKETIME_TIMESTAMP_FILE"] = _offset,
        ["FAKETIME_CACHE_DURATION"] = "1",
        // Both spellings of it; and its cure for old waits on the monotonic clock is .NET's disease.
        ["FAKETIME_DONT_FAKE_MONOTONIC"] = "1",
        ["DONT_FAKE_MONOTONIC"] = "1",
        ["FAKETIME_FORCE_MONOTONIC_FIX"] = "0",
    };

    private static string? Library => Environment.GetEnvironmentVariable("PANDORA_TEST_FAKETIME");

    /// <summary>Sets it to so far from the machine's. It is seen within a second.</summary>
    public void Set(TimeSpan offset)
    {
        File.WriteAllText($"{_offset}.new", offset.TotalSeconds.ToString("+0;-0", CultureInfo.InvariantCulture));
        File.Move($"{_offset}.new", _offset, overwrite: true);
    }
}
