namespace Pandora.TestHost;

/// <summary>Paths of the repository and of the files that the tests use.</summary>
internal static class Repository
{
    public static readonly string Root = Find();

    /// <summary>The directory of templates, which './pandora test' builds or updates.</summary>
    public static readonly string Templates = Environment.GetEnvironmentVariable("PANDORA_TEST_TEMPLATES") ?? "/var/lib/pandora/templates";

    /// <summary>The guest agent's program, which './pandora' builds beside the templates.</summary>
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
