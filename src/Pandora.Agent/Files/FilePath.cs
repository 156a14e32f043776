using System.Text;
using Pandora.Agent.Processes;
using Pandora.Agent.Protocol.Files;

namespace Pandora.Agent.Files;

/// <summary>Paths are bytes: a name need not be UTF-8.</summary>
internal static class FilePath
{
    private const int MostShown = 200;

    /// <summary>Makes a path absolute. It is no other than the given one otherwise: what it leads to is the kernel's to say.</summary>
    /// <exception cref="FileFailedException">It is no path.</exception>
    public static byte[] MakeAbsolute(byte[] path, Account account)
    {
        if (path.Length == 0 || path.Contains((byte)0))
        {
            throw new FileFailedException(FileFailureKind.Path, path.Length == 0 ? "the path is empty" : "the path has a NUL");
        }

        byte[] absolute = path[0] == '/' ? path : [.. Encoding.UTF8.GetBytes(account.Home), (byte)'/', .. path];
        if (absolute[0] != '/')
        {
            throw new FileFailedException(FileFailureKind.Path, $"the home of '{account.Name}' is no absolute path");
        }

        return absolute.Length <= FileRequest.MaxPath
            ? absolute
            : throw new FileFailedException(FileFailureKind.Path, "the path is too long");
    }

    /// <summary>The path for people and clients: without empty names, and "." as names.</summary>
    public static byte[] Clean(ReadOnlySpan<byte> absolute)
    {
        var clean = new byte[absolute.Length + 1];
        var length = 0;
        foreach (var range in absolute.Split((byte)'/'))
        {
            var name = absolute[range];
            if (name.Length > 0 && !name.SequenceEqual("."u8))
            {
                clean[length++] = (byte)'/';
                name.CopyTo(clean.AsSpan(length));
                length += name.Length;
            }
        }

        return length == 0 ? [(byte)'/'] : clean[..length];
    }

    /// <summary>Splits a path at its last name.</summary>
    /// <returns>The path of the directory, and the name; it is empty for the root directory.</returns>
    public static (byte[] Directory, byte[] Name) Split(ReadOnlySpan<byte> path)
    {
        var trimmed = path.TrimEnd((byte)'/');
        var slash = trimmed.LastIndexOf((byte)'/');
        var directory = slash < 0 ? "."u8 : path[..(slash + 1)];
        return (directory.ToArray(), trimmed[(slash + 1)..].ToArray());
    }

    /// <summary>Whether a name is that of the directory itself, or of the one above.</summary>
    public static bool IsDots(ReadOnlySpan<byte> name) => name.SequenceEqual("."u8) || name.SequenceEqual(".."u8);

    /// <summary>Joins the path of a directory and a name. Either may be empty.</summary>
    public static byte[] Join(ReadOnlySpan<byte> directory, ReadOnlySpan<byte> name) =>
        directory.IsEmpty || name.IsEmpty || directory[^1] == '/' ? [.. directory, .. name] : [.. directory, (byte)'/', .. name];

    /// <summary>The path as a short text: bytes that are no printable UTF-8 become <c>\xNN</c>.</summary>
    public static string Show(ReadOnlySpan<byte> path)
    {
        var text = new StringBuilder();
        while (!path.IsEmpty && text.Length < MostShown)
        {
            var status = Rune.DecodeFromUtf8(path, out var rune, out var length);
            if (status == System.Buffers.OperationStatus.Done && !Rune.IsControl(rune) && Rune.GetUnicodeCategory(rune)
                is not (System.Globalization.UnicodeCategory.Format or System.Globalization.UnicodeCategory.LineSeparator
                or System.Globalization.UnicodeCategory.ParagraphSeparator))
            {
                text.Append(rune.ToString());
            }
            else
            {
                foreach (var b in path[..length])
                {
                    text.Append("\\x").Append(b.ToString("x2"));
                }
            }

            path = path[length..];
        }

        return path.IsEmpty ? $"'{text}'" : $"'{text}…'";
    }
}
