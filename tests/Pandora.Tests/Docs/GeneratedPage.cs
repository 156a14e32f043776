namespace Pandora.Tests.Docs;

/// <summary>A page of the documentation that is made from the code.</summary>
internal static class GeneratedPage
{
    /// <summary>Fails when the page in the repository differs; writes it with <c>MAKE_REFERENCE=1</c> in the environment.</summary>
    public static void Check(string path, string text)
    {
        if (Environment.GetEnvironmentVariable("MAKE_REFERENCE") == "1")
        {
            File.WriteAllText(Repository.PathOf(path), text);
        }

        Assert.True(
            File.Exists(Repository.PathOf(path)) && Repository.Read(path) == text,
            $"{path} differs from the code. If the change is intended, run this test with MAKE_REFERENCE=1 in its environment");
    }
}
