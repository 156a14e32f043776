using System.Runtime.InteropServices;
using System.Text;
using Pandora.Agent.Protocol.Files;

namespace Pandora.Agent.Files;

/// <summary>Extended attributes of files in the namespace of users: xattr(7). Values that are no text are left out.</summary>
internal static unsafe partial class FileAttributes
{
    // Of one file: what a client may set, and more. What is longer is not shown.
    private const int MaxBytes = 16 * 1024;
    private const string Namespace = "user.";

    /// <summary>Reads the attributes of an open file, which may be open as a path only.</summary>
    /// <returns>Names and values by turns; empty when the filesystem has none.</returns>
    public static List<string> Of(int descriptor) => Read(Encoding.ASCII.GetBytes($"/proc/self/fd/{descriptor}\0"), listxattr, getxattr);

    /// <summary>Reads the attributes of a file in an open directory. A link has none.</summary>
    public static List<string> Of(int directory, ReadOnlySpan<byte> name) =>
        Read([.. Encoding.ASCII.GetBytes($"/proc/self/fd/{directory}/"), .. name, 0], llistxattr, lgetxattr);

    /// <summary>Sets attributes of an open file.</summary>
    /// <param name="descriptor">The file.</param>
    /// <param name="attributes">Names and values by turns.</param>
    /// <param name="path">The file's path, for the error.</param>
    /// <exception cref="FileFailedException">The filesystem has no attributes, or no room for them.</exception>
    public static void Set(int descriptor, IReadOnlyList<string> attributes, byte[] path)
    {
        for (var i = 0; i + 1 < attributes.Count; i += 2)
        {
            if (!attributes[i].StartsWith(Namespace, StringComparison.Ordinal))
            {
                throw new FileFailedException(FileFailureKind.Protocol, $"an attribute's name must begin with {Namespace}");
            }

            var value = Encoding.UTF8.GetBytes(attributes[i + 1]);
            fixed (byte* name = Encoding.UTF8.GetBytes(attributes[i] + '\0'), bytes = value)
            {
                if (fsetxattr(descriptor, name, bytes, (nuint)value.Length, 0) < 0)
                {
                    throw FileFailedException.Of(-Marshal.GetLastPInvokeError(), path);
                }
            }
        }
    }

    private static List<string> Read(byte[] path, ListNames list, GetValue get)
    {
        Span<byte> names = new byte[MaxBytes], value = new byte[MaxBytes];
        List<string> found = [];
        fixed (byte* file = path, all = names, one = value)
        {
            var length = (int)list(file, all, MaxBytes);
            var rest = names[..Math.Max(0, length)];
            for (var left = MaxBytes; rest.IndexOf((byte)0) is var end && end >= 0; rest = rest[(end + 1)..])
            {
                var name = Encoding.UTF8.GetString(rest[..end]);
                if (!name.StartsWith(Namespace, StringComparison.Ordinal))
                {
                    continue;
                }

                fixed (byte* attribute = Encoding.UTF8.GetBytes(name + '\0'))
                {
                    var size = (int)get(file, attribute, one, MaxBytes);
                    left -= name.Length + Math.Max(0, size);
                    if (size < 0 || left < 0 || !System.Text.Unicode.Utf8.IsValid(value[..size]))
                    {
                        continue;
                    }

                    found.Add(name);
                    found.Add(Encoding.UTF8.GetString(value[..size]));
                }
            }
        }

        return found;
    }

    private delegate nint ListNames(byte* path, byte* names, nuint size);

    private delegate nint GetValue(byte* path, byte* name, byte* value, nuint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint listxattr(byte* path, byte* names, nuint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint llistxattr(byte* path, byte* names, nuint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint getxattr(byte* path, byte* name, byte* value, nuint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint lgetxattr(byte* path, byte* name, byte* value, nuint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fsetxattr(int descriptor, byte* name, byte* value, nuint size, int flags);
}
