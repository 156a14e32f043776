using System.Text;
using Pandora.Engine.Guests.Files;

namespace Pandora.E2b.Files;

/// <summary>Describes files as E2B's clients expect it.</summary>
internal static class FileEntries
{
    /// <summary>How the names of attributes begin that are a client's metadata.</summary>
    public const string MetadataPrefix = "user.e2b.";

    /// <summary>Describes a file.</summary>
    /// <param name="file">The file.</param>
    /// <param name="path">Its path, as the client named it.</param>
    /// <param name="target">What a link leads to, when the file is one and leads somewhere.</param>
    public static EntryInfo Of(GuestFile file, string path, GuestFile? target = null)
    {
        var isLink = file.Kind == GuestFileKind.Link;
        return new EntryInfo(
            path == "/" ? "/" : path[(path.TrimEnd('/').LastIndexOf('/') + 1)..].TrimEnd('/'),
            isLink ? target is null ? "FILE_TYPE_UNSPECIFIED" : TypeOf(target.Kind) : TypeOf(file.Kind),
            path,
            file.Size,
            isLink ? (target?.Mode ?? 0) & 0x1ff : file.Mode & 0x1ff,
            PermissionsOf(file),
            file.User ?? $"{file.UserId}",
            file.Group ?? $"{file.GroupId}",
            file.ModifiedAt.ToUniversalTime(),
            isLink ? Text(target?.Path ?? file.Path) : null)
        {
            Metadata = MetadataOf(file),
        };
    }

    /// <summary>What a client wrote about a file: in its attributes.</summary>
    public static Dictionary<string, string>? MetadataOf(GuestFile file)
    {
        var metadata = (file.Attributes ?? new Dictionary<string, string>())
            .Where(a => a.Key.StartsWith(MetadataPrefix, StringComparison.Ordinal))
            .ToDictionary(a => a.Key[MetadataPrefix.Length..], a => a.Value);
        return metadata.Count > 0 ? metadata : null;
    }

    /// <summary>Bytes of the guest as a text.</summary>
    public static string Text(byte[] bytes) => Encoding.UTF8.GetString(bytes);

    /// <summary>A text as a path of the guest.</summary>
    public static byte[] Bytes(string path) => Encoding.UTF8.GetBytes(path);

    /// <summary>Name of a kind.</summary>
    public static string TypeOf(GuestFileKind kind) => kind switch
    {
        GuestFileKind.File => "FILE_TYPE_FILE",
        GuestFileKind.Directory => "FILE_TYPE_DIRECTORY",
        GuestFileKind.Link => "FILE_TYPE_SYMLINK",
        _ => "FILE_TYPE_UNSPECIFIED",
    };

    // As Go prints a mode: the kind in upper or lower case, or a hyphen, then nine letters.
    private static string PermissionsOf(GuestFile file)
    {
        var kind = file.Kind switch
        {
            GuestFileKind.Directory => "d",
            GuestFileKind.Link => "L",
            GuestFileKind.Fifo => "p",
            GuestFileKind.Socket => "S",
            GuestFileKind.CharacterDevice => "Dc",
            GuestFileKind.BlockDevice => "D",
            _ => "",
        };
        var special = (file.Mode & 0x800) != 0 ? "u" : "";
        special += (file.Mode & 0x400) != 0 ? "g" : "";
        special += (file.Mode & 0x200) != 0 ? "t" : "";
        const string letters = "rwxrwxrwx";
        var rights = string.Concat(letters.Select((letter, i) => (file.Mode >> (8 - i) & 1) == 1 ? letter : '-'));
        return (kind + special is { Length: > 0 } prefix ? prefix : "-") + rights;
    }
}
