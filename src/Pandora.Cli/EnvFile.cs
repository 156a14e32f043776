using System.Text;

namespace Pandora.Cli;

/// <summary>
/// A file of environment variables, in the format of docker's <c>--env-file</c>: <c>KEY=VALUE</c> with the value as it is, without quotes
/// or escapes; <c>KEY</c> alone takes the value that this program has, and is left out where it has none; lines that begin with <c>#</c>
/// and empty ones do not count.
/// </summary>
internal static class EnvFile
{
    /// <summary>Reads the variables.</summary>
    /// <exception cref="UsageException">The file cannot be read, or a line is not understood; the message names both.</exception>
    public static Dictionary<string, string> Read(string path)
    {
        string[] lines;
        try
        {
            lines = File.ReadAllLines(path, new UTF8Encoding(false, throwOnInvalidBytes: true));
        }
        catch (DecoderFallbackException)
        {
            throw new UsageException($"--env-file: '{path}' is not UTF-8");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"--env-file: '{path}' cannot be read: {e.Message}");
        }

        var variables = new Dictionary<string, string>(StringComparer.Ordinal);
        for (var i = 0; i < lines.Length; i++)
        {
            var line = lines[i].TrimStart();
            if (line.Length == 0 || line[0] == '#')
            {
                continue;
            }

            var equals = line.IndexOf('=');
            var name = equals < 0 ? line : line[..equals];
            if (name.Length == 0 || name.Any(char.IsWhiteSpace))
            {
                throw new UsageException($"--env-file: line {i + 1} of '{path}' is not KEY=VALUE or KEY");
            }

            if (line.Contains('\0'))
            {
                throw new UsageException($"--env-file: line {i + 1} of '{path}' has a NUL");
            }

            if (equals >= 0)
            {
                variables[name] = line[(equals + 1)..];
            }
            else if (Environment.GetEnvironmentVariable(name) is { } value)
            {
                variables[name] = value;
            }
        }

        return variables;
    }
}
