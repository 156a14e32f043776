using System.Buffers.Binary;
using System.Text;

namespace Pandora.Agent.Ports;

/// <summary>Converts the guest's SSH host key, which has the format of dropbear, to the format that OpenSSH's programs read.</summary>
internal static class OpenSshKey
{
    private const int SeedSize = 32, PublicSize = 32, BlockSize = 8, LineLength = 70;

    // Two equal numbers show a reader that it has the right pass phrase. There is none here.
    private const uint Check = 0x50414E44;

    private static ReadOnlySpan<byte> Algorithm => "ssh-ed25519"u8;

    /// <summary>Converts a key.</summary>
    /// <param name="key">In dropbear's format (its ed25519.c): the algorithm's name, then seed and public key in one string.</param>
    /// <returns>The file (OpenSSH's PROTOCOL.key).</returns>
    /// <exception cref="FormatException">It is no ed25519 key.</exception>
    public static byte[] Convert(ReadOnlySpan<byte> key)
    {
        if (!TryTake(ref key, out var algorithm) || !algorithm.SequenceEqual(Algorithm) || !TryTake(ref key, out var pair)
            || pair.Length != SeedSize + PublicSize || !key.IsEmpty)
        {
            throw new FormatException("the guest's SSH host key is no ed25519 key of dropbear");
        }

        var publicKey = pair[SeedSize..];
        List<byte> inner = [];
        Number(inner, Check);
        Number(inner, Check);
        Text(inner, Algorithm);
        Text(inner, publicKey);
        Text(inner, pair);
        Text(inner, []); // a comment
        for (var padding = 1; inner.Count % BlockSize != 0; padding++)
        {
            inner.Add((byte)padding);
        }

        List<byte> known = [];
        Text(known, Algorithm);
        Text(known, publicKey);
        List<byte> file = [.. "openssh-key-v1\0"u8];
        Text(file, "none"u8); // cipher
        Text(file, "none"u8); // way to make its key
        Text(file, []);
        Number(file, 1); // keys
        Text(file, [.. known]);
        Text(file, [.. inner]);
        return Encoding.ASCII.GetBytes(Armor(System.Convert.ToBase64String([.. file])));
    }

    private static string Armor(string text)
    {
        var lines = Enumerable.Range(0, (text.Length + LineLength - 1) / LineLength)
            .Select(i => text[(i * LineLength)..Math.Min(text.Length, (i + 1) * LineLength)]);
        return $"-----BEGIN OPENSSH PRIVATE KEY-----\n{string.Join('\n', lines)}\n-----END OPENSSH PRIVATE KEY-----\n";
    }

    private static bool TryTake(ref ReadOnlySpan<byte> rest, out ReadOnlySpan<byte> text)
    {
        text = default;
        if (rest.Length < 4 || BinaryPrimitives.ReadUInt32BigEndian(rest) is var length && length > rest.Length - 4)
        {
            return false;
        }

        text = rest.Slice(4, (int)length);
        rest = rest[(4 + (int)length)..];
        return true;
    }

    private static void Text(List<byte> target, ReadOnlySpan<byte> text)
    {
        Number(target, (uint)text.Length);
        target.AddRange(text);
    }

    private static void Number(List<byte> target, uint number)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, number);
        target.AddRange(bytes);
    }
}
