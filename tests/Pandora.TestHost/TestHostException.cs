namespace Pandora.TestHost;

/// <summary>A condition of a test or a check does not hold.</summary>
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
