using Pandora.TestHost;

namespace Pandora.E2bTests;

/// <summary>E2B's clients, which './pandora test' installs with npm below <c>artifacts/</c>.</summary>
internal static class Clients
{
    public static string Directory { get; } =
        Environment.GetEnvironmentVariable("PANDORA_TEST_E2B_CLIENTS") ?? Path.Combine(Repository.Root, "artifacts/e2b-clients");

    /// <summary>Why the clients cannot be run; null when they can.</summary>
    public static string? Missing { get; } = Environment.GetEnvironmentVariable("PANDORA_TEST_E2B_MISSING") ?? Find();

    private static string? Find() => File.Exists(Path.Combine(Directory, "node_modules/.package-lock.json"))
        ? null
        : $"E2B's clients are not in {Directory}: './pandora test' installs them with npm, and needs a registry for it";
}
