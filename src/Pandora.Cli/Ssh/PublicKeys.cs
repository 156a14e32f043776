using System.Text;
using Pandora.Contracts;

namespace Pandora.Cli.Ssh;

/// <summary>Public keys of SSH as lines of text: type, base64, comment.</summary>
internal static class PublicKeys
{
    /// <summary>Reads the keys in a file. Empty lines and comments are left out.</summary>
    /// <exception cref="UsageException">It has none, has a private key, or is too long.</exception>
    public static IEnumerable<string> ReadFile(string path)
    {
        string text;
        try
        {
            using var file = File.OpenRead(path);
            var bytes = new byte[Limits.MaxSshKeyBytes + 1];
            var length = file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            text = length == bytes.Length
                ? throw new UsageException($"--ssh-key: '{path}' is longer than {Limits.Size(Limits.MaxSshKeyBytes)}")
                : Encoding.UTF8.GetString(bytes, 0, length);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"--ssh-key: {e.Message}");
        }

        if (text.Contains("PRIVATE KEY", StringComparison.Ordinal))
        {
            throw new UsageException($"--ssh-key: '{path}' is a private key, which goes nowhere; name the public one, '{path}.pub'");
        }

        var keys = text.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
            .Where(l => !l.StartsWith('#')).ToList();
        return keys.Count > 0 ? keys : throw new UsageException($"--ssh-key: '{path}' has no public key");
    }

    /// <summary>Whether two lines are the same key, whatever their comments are.</summary>
    public static bool AreSame(string one, string other) => WordsOf(one).SequenceEqual(WordsOf(other));

    private static IEnumerable<string> WordsOf(string key) => key.Split(' ', StringSplitOptions.RemoveEmptyEntries).Take(2);
}
