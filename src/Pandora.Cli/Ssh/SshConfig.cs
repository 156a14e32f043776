using System.Text.RegularExpressions;

namespace Pandora.Cli.Ssh;

/// <summary>The block of ssh_config(5) by which the system's programs reach a sandbox.</summary>
internal static partial class SshConfig
{
    /// <summary>The first line of the block names the server, for the clean-up of files.</summary>
    public const string ServerMark = "# Made by Pandora for the server ";

    /// <summary>Name under which a sandbox is reached, and its host key known.</summary>
    public static string HostOf(string sandboxId) => $"pandora-{sandboxId}";

    /// <summary>Writes the block. It holds no key of the API: the command line finds that when it connects.</summary>
    /// <param name="sandboxId">Id of the sandbox.</param>
    /// <param name="server">Address of the server.</param>
    /// <param name="user">User to log in as.</param>
    /// <param name="keyFile">The private key.</param>
    /// <param name="knownHosts">The file with the sandbox's host key.</param>
    /// <param name="program">This program and its words before the command's.</param>
    /// <param name="environment">Variables that it needs.</param>
    /// <exception cref="UsageException">A path cannot be written there.</exception>
    public static string Write(
        string sandboxId, Uri server, string user, string keyFile, string knownHosts, IReadOnlyList<string> program,
        IEnumerable<KeyValuePair<string, string>> environment)
    {
        var words = environment.Select(v => $"{v.Key}={v.Value}").Concat(program).Concat(["ssh", sandboxId, "--stdio"]);
        return $"""
            {ServerMark}{server.AbsoluteUri}
            Host {HostOf(sandboxId)}
                User {user}
                IdentityFile {Value(keyFile)}
                IdentitiesOnly yes
                IdentityAgent none
                PreferredAuthentications publickey
                ForwardAgent no
                ForwardX11 no
                HostKeyAlias {HostOf(sandboxId)}
                HostKeyAlgorithms ssh-ed25519
                UserKnownHostsFile {Value(knownHosts)}
                GlobalKnownHostsFile /dev/null
                StrictHostKeyChecking yes
                UpdateHostKeys no
                ServerAliveInterval 15
                ServerAliveCountMax 4
                ProxyCommand env {string.Join(' ', words.Select(Word))}

            """;
    }

    // ssh takes the rest of the line, replaces what begins with a percent sign, and gives it to the user's shell.
    private static string Word(string word)
    {
        CheckLine(word);
        var quoted = Plain().IsMatch(word) ? word : $"'{word.Replace("'", "'\\''", StringComparison.Ordinal)}'";
        return quoted.Replace("%", "%%", StringComparison.Ordinal);
    }

    // ssh takes quotes and backslashes away, and replaces what begins with a percent sign or with ${, which nothing can undo.
    private static string Value(string path)
    {
        CheckLine(path);
        if (path.Contains("${", StringComparison.Ordinal))
        {
            throw new UsageException($"ssh cannot use files in '{path}', because of the '${{': set XDG_CONFIG_HOME to another directory");
        }

        var escaped = path.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal);
        return $"\"{escaped.Replace("%", "%%", StringComparison.Ordinal)}\"";
    }

    private static void CheckLine(string text)
    {
        if (text.Any(char.IsControl))
        {
            throw new UsageException($"ssh cannot use the path '{Shared.Clean(text)}', because it has a control character");
        }
    }

    [GeneratedRegex(@"^[A-Za-z0-9_@%+=:,./-]+$")]
    private static partial Regex Plain();
}
