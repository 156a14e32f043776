using System.Diagnostics;

namespace Pandora.TestHost;

/// <summary>Settings of whoever starts a test program or a benchmark. They are for the caller's own service alone.</summary>
internal static class CallersSettings
{
    private const string Prefix = "PANDORA_", TestPrefix = "PANDORA_TEST_";

    /// <summary>Removes them from this process, and so from all that it starts. The tests' own stay: <c>PANDORA_TEST_*</c>.</summary>
    public static void Forget()
    {
        foreach (var name in Environment.GetEnvironmentVariables().Keys.Cast<string>().Where(n => Is(n, Prefix) && !Is(n, TestPrefix)))
        {
            Environment.SetEnvironmentVariable(name, null);
        }
    }

    /// <summary>Removes them from the environment of a server that is to be started, which knows none of the tests' own either.</summary>
    public static void RemoveFrom(ProcessStartInfo start)
    {
        foreach (var name in start.Environment.Keys.Where(n => Is(n, Prefix)).ToList())
        {
            start.Environment.Remove(name);
        }
    }

    private static bool Is(string name, string prefix) => name.StartsWith(prefix, StringComparison.Ordinal);
}
