namespace Pandora.Tests;

/// <summary>The checkout that the tests run in.</summary>
internal static class Repository
{
    public static readonly string Root = Find();

    /// <summary>The full path of a file in the checkout.</summary>
    public static string PathOf(string path) => Path.Combine(Root, path);

    /// <summary>The text of a file in the checkout.</summary>
    public static string Read(string path) => File.ReadAllText(PathOf(path));

    private static string Find()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory!.FullName, "Pandora.slnx")))
        {
            directory = directory.Parent;
        }

        return directory.FullName;
    }
}
