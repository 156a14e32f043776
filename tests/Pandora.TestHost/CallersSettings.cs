using System.Diagnostics;

namespace Pandora.TestHost;

/// <summary>
/// The settings (<c>PANDORA_*</c>) of the person who starts a test or a benchmark. They are for that person's service only.
/// </summary>
internal static class CallersSettings
{
    private const string Prefix = "PANDORA_", TestPrefix = "PANDORA_TEST_";

    /// <summary>
    /// Removes the settings from this process, and so from its children. The tests' settings stay: <c>PANDORA_TEST_*</c>.
    /// </summary>
    public static void Forget()
    {
        foreach (var name in Environment.GetEnvironmentVariables().Keys.Cast<string>().Where(n => Is(n, Prefix) && !Is(n, TestPrefix)))
        {
            Environment.SetEnvironmentVariable(name, null);
        }
    }

    /// <summary>Removes the settings from the environment of a server to start, including the tests' own, which a server refuses.</summary>
    public static void RemoveFrom(ProcessStartInfo start)
    {
        foreach (var name in start.Environment.Keys.Where(n => Is(n, Prefix)).ToList())
        {
            start.Environment.Remove(name);
        }
    }

    private static bool Is(string name, string prefix) => name.StartsWith(prefix, StringComparison.Ordinal);
}
