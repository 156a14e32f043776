using System.Buffers.Binary;
using System.Text;

namespace Pandora.Engine.Sandboxes;

/// <content>Ports, and keys that may log in.</content>
internal static partial class RequestLimits
{
    public const int MaxPublicPorts = 64, MaxSshKeys = 64, MaxSshKeyBytes = 16 * 1024;

    // ssh-keygen(1) makes them, but for DSA, which OpenSSH no longer accepts.
    private static readonly string[] SshKeyTypes =
    [
        "ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
    ];

    public static void CheckPort(int port, string field = "port")
    {
        if (port is < 1 or > ushort.MaxValue)
        {
            throw PandoraException.Invalid(field, $"must be between 1 and {ushort.MaxValue}, and is {port}");
        }
    }

    public static void CheckPublicPorts(IReadOnlyList<int> ports, string field)
    {
        foreach (var port in ports)
        {
            CheckPort(port, field);
        }

        if (ports.Count > MaxPublicPorts)
        {
            throw PandoraException.Invalid(field, $"at most {MaxPublicPorts} ports of a sandbox may be public, and these are {ports.Count}");
        }
    }

    public static void CheckSshKeys(IReadOnlyList<string> keys, string field)
    {
        if (keys.Count > MaxSshKeys)
        {
            throw PandoraException.Invalid(field, $"must be at most {MaxSshKeys} keys, and are {keys.Count}");
        }

        var size = 0;
        for (var i = 0; i < keys.Count; i++)
        {
            if (ProblemOfSshKey(keys[i]) is { } problem)
            {
                throw PandoraException.Invalid(field, $"key {i + 1} {problem}");
            }

            size += Encoding.UTF8.GetByteCount(keys[i]) + 1;
        }

        if (size > MaxSshKeyBytes)
        {
            throw PandoraException.Invalid(field, $"must be at most {MaxSshKeyBytes / 1024} KiB in all, and are {size} bytes");
        }
    }

    // Format: sshd(8), AUTHORIZED_KEYS FILE FORMAT, without options, which could run commands.
    private static string? ProblemOfSshKey(string? key)
    {
        if (key is null || key.Any(c => c < ' ' || c == '\x7f'))
        {
            return "must be one line without control characters";
        }

        if (key.Split(' ', 3) is not [var type, var encoded, ..] || !SshKeyTypes.Contains(type))
        {
            return $"must begin with its type, one of {string.Join(", ", SshKeyTypes)}; options are not allowed";
        }

        var bytes = new byte[encoded.Length];
        var isWhole = Convert.TryFromBase64String(encoded, bytes, out var count)
            && count > 4
            && BinaryPrimitives.ReadInt32BigEndian(bytes) == type.Length
            && count > 4 + type.Length
            && bytes.AsSpan(4, type.Length).SequenceEqual(Encoding.ASCII.GetBytes(type));
        return isWhole ? null : $"is no {type} key: its second word must be the key in base64";
    }
}
