using System.Buffers.Binary;
using System.Globalization;
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
            throw PandoraException.Invalid(
                field, $"at most {MaxPublicPorts} ports of a sandbox may be public, and these are {ports.Count}");
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
        if (key is null || key.EnumerateRunes().Any(r => !IsPrintable(r)))
        {
            return "must be one line of printable characters";
        }

        if (key.Split(' ', 3) is not [var type, var encoded, ..] || !SshKeyTypes.Contains(type))
        {
            return $"must begin with its type, one of {string.Join(", ", SshKeyTypes)}; options are not allowed";
        }

        return IsKeyOf(type, encoded) ? null : $"is no {type} key: its second word must be the whole key in base64";
    }

    // Half of a surrogate pair is read as the replacement character.
    private static bool IsPrintable(Rune rune) => rune != Rune.ReplacementChar
        && Rune.GetUnicodeCategory(rune) is not (UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator
            or UnicodeCategory.ParagraphSeparator);

    // Strings with their lengths before them, the first of which is the type: RFC 4253, section 6.6.
    private static bool IsKeyOf(string type, string encoded)
    {
        var bytes = new byte[encoded.Length];
        if (!Convert.TryFromBase64String(encoded, bytes, out var count))
        {
            return false;
        }

        var rest = bytes.AsSpan(0, count);
        var parts = 0;
        for (; rest.Length >= sizeof(int); parts++)
        {
            var length = BinaryPrimitives.ReadInt32BigEndian(rest);
            rest = rest[sizeof(int)..];
            if (length < 0 || length > rest.Length || (parts == 0 && !rest[..length].SequenceEqual(Encoding.ASCII.GetBytes(type))))
            {
                return false;
            }

            rest = rest[length..];
        }

        return parts > 1 && rest.IsEmpty;
    }
}
