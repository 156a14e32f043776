using System.Globalization;
using System.Text;

namespace Pandora.Agent.Ports;

/// <summary>
/// What the guest's SSH server reads: its configuration, the host key, and a file of keys that may log in for each set of keys. The guest's
/// own configuration is not used.
/// </summary>
internal sealed class SshFiles
{
    private const UnixFileMode Private = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode Plain = Private | UnixFileMode.GroupRead | UnixFileMode.OtherRead;
    private const UnixFileMode Pass = UnixFileMode.GroupExecute | UnixFileMode.OtherExecute;
    private const string KeysPrefix = "keys-";
    private const int MaxHostKey = 4096;
    private readonly Dictionary<string, AuthorizedKeys> _sets = [];
    private bool _hasCleaned;
    private long _made;

    /// <summary>The program.</summary>
    public string Program { get; init; } = "/usr/sbin/sshd";

    /// <summary>The guest's host key, in dropbear's format. A resume replaces it.</summary>
    public string HostKey { get; init; } = "/etc/pandora/host_key";

    /// <summary>
    /// The directory for the files. Every user may pass it, because the server reads the keys with the rights of the user who logs in.
    /// </summary>
    public string Directory { get; init; } = "/run/pandora/ssh";

    /// <summary>The empty directory that the server's unprivileged part is confined to. Distributions have it on a tmpfs.</summary>
    public string Empty { get; init; } = "/run/sshd";

    /// <summary>The rules by which PAM opens sessions. Without PAM a user who has no password would count as locked.</summary>
    public string Pam { get; init; } = "/etc/pam.d/sshd";

    /// <summary>The configuration.</summary>
    public string Config => $"{Directory}/sshd_config";

    /// <summary>Writes what the server reads.</summary>
    /// <param name="keys">The public keys that may log in.</param>
    /// <returns>The keys' file; <see cref="AuthorizedKeys.Release"/> says that it is used no more.</returns>
    /// <exception cref="IOException">A file could not be read or written.</exception>
    /// <exception cref="UnauthorizedAccessException">The agent may not.</exception>
    /// <exception cref="FormatException">The host key has an unknown format.</exception>
    public AuthorizedKeys Prepare(IReadOnlyList<string> keys)
    {
        System.IO.Directory.CreateDirectory(Empty, Plain | UnixFileMode.UserExecute | Pass);
        System.IO.Directory.CreateDirectory(Directory, Private | UnixFileMode.UserExecute | Pass);
        if (!_hasCleaned)
        {
            RemoveOld();
            _hasCleaned = true;
        }

        Put($"{Directory}/host_key", OpenSshKey.Convert(ReadHostKey()), Private);
        Put(Config, Encoding.ASCII.GetBytes(ConfigText(File.Exists(Pam))), Private);
        var content = string.Concat(keys.Select(k => k + "\n"));
        if (!_sets.TryGetValue(content, out var set))
        {
            // Several agents may run in a guest whose commands run over SSH.
            set = new AuthorizedKeys($"{Directory}/{KeysPrefix}{Environment.ProcessId}-{++_made}", () => _sets.Remove(content));
        }

        Put(set.Path, Encoding.UTF8.GetBytes(content), Plain);
        _sets[content] = set;
        set.Use();
        return set;
    }

    /// <summary>The text of the configuration (sshd_config(5)).</summary>
    /// <param name="hasPam">Whether the guest has rules for PAM.</param>
    internal string ConfigText(bool hasPam) => $"""
        # Written by Pandora's agent for each connection.
        HostKey {Directory}/host_key
        PermitRootLogin prohibit-password
        PubkeyAuthentication yes
        PasswordAuthentication no
        KbdInteractiveAuthentication no
        {(hasPam ? "UsePAM yes" : "# no PAM")}
        StrictModes no
        AllowAgentForwarding no
        AllowTcpForwarding yes
        X11Forwarding no
        PermitTunnel no
        GatewayPorts no
        PrintMotd no
        PrintLastLog no
        Subsystem sftp internal-sftp
        AcceptEnv LANG LC_* COLORTERM
        MaxSessions 64
        LoginGraceTime 30
        UseDNS no
        PidFile none

        """;

    private byte[] ReadHostKey()
    {
        // Whatever lies there must not make the loop wait.
        var file = Linux.OpenToPoll(HostKey);
        if (file < 0)
        {
            throw new IOException($"{HostKey} cannot be opened: error {Linux.LastError}");
        }

        var bytes = new byte[MaxHostKey];
        var count = Linux.Read(file, bytes);
        Linux.Close(file);
        return bytes[..Math.Max(0, count)];
    }

    // A server that reads a file meanwhile has the old one or the new one, whole.
    private static void Put(string path, byte[] content, UnixFileMode mode)
    {
        // What has no length may be a pipe, on which the loop would wait.
        if (content.Length > 0 && File.Exists(path) && new FileInfo(path).Length == content.Length
            && File.ReadAllBytes(path).AsSpan().SequenceEqual(content))
        {
            return;
        }

        var unfinished = $"{path}.{Environment.ProcessId}";
        File.Delete(unfinished);
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, UnixCreateMode = mode };
        using (var file = new FileStream(unfinished, options))
        {
            file.Write(content);
        }

        // The process may create files with fewer rights than these.
        File.SetUnixFileMode(unfinished, mode);
        File.Move(unfinished, path, overwrite: true);
    }

    // Those of agents that died.
    private void RemoveOld()
    {
        foreach (var path in System.IO.Directory.GetFiles(Directory, $"{KeysPrefix}*"))
        {
            var owner = Path.GetFileName(path)[KeysPrefix.Length..].Split('-')[0];
            if (!int.TryParse(owner, NumberStyles.None, CultureInfo.InvariantCulture, out var pid)
                || pid == Environment.ProcessId || !Linux.Exists(pid))
            {
                File.Delete(path);
            }
        }
    }
}

/// <summary>A file of the public keys that may log in. The connections with the same keys share it; it goes with the last.</summary>
/// <param name="path">The file.</param>
/// <param name="removed">Called when it is used no more.</param>
internal sealed class AuthorizedKeys(string path, Action removed)
{
    private int _users;

    /// <summary>The file.</summary>
    public string Path => path;

    /// <summary>Says that one connection more uses it.</summary>
    public void Use() => _users++;

    /// <summary>Says that one connection less uses it.</summary>
    public void Release()
    {
        if (--_users == 0)
        {
            removed();
            try
            {
                File.Delete(path);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // The guest's root has moved the directory, or made it a mount that cannot be written. The file holds nothing secret.
            }
        }
    }
}
