namespace Pandora.TestHost;

/// <summary>Something is not as it must be.</summary>
internal sealed class TestHostException(string message) : Exception(message)
{
    /// <summary>Throws unless a condition holds.</summary>
    public static void Require(bool condition, string message)
    {
        if (!condition)
        {
            throw new TestHostException(message);
        }
    }
}
