namespace Pandora.TestHost;

/// <summary>Where things are.</summary>
internal static class Repository
{
    public static readonly string Root = Find();

    /// <summary>The templates that './pandora test' has seen to.</summary>
    public static readonly string Templates = Environment.GetEnvironmentVariable("PANDORA_TEST_TEMPLATES") ?? "/var/lib/pandora/templates";

    /// <summary>The guest agent's program, which './pandora' has built beside them.</summary>
    public static readonly string Agent = Path.Combine(Path.GetDirectoryName(Templates)!, "agent/pandora-agent");

    private static string Find()
    {
        for (var directory = new DirectoryInfo(AppContext.BaseDirectory); directory is not null; directory = directory.Parent)
        {
            if (File.Exists(Path.Combine(directory.FullName, "Pandora.slnx")))
            {
                return directory.FullName;
            }
        }

        throw new InvalidOperationException("the tests do not run inside the repository");
    }
}
