using System.Text;
using Pandora.Contracts;
using Pandora.Engine.Guests.Files;
using Pandora.Engine.Telemetry;

namespace Pandora.Server.Api.Files;

/// <summary>Writes files and changes as on the wire. Names are bytes: those that are not UTF-8 are given twice.</summary>
internal static class FileEntries
{
    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);

    public static FileEntry Of(GuestFile file)
    {
        var isLink = file.Kind == GuestFileKind.Link;
        return new FileEntry(
            Text(file.Path), Text(NameOf(file.Path)), Label.Of(file.Kind), file.Size, ModeOf(file), file.UserId, file.GroupId,
            file.ModifiedAt, FileConditions.TagOf(file), file.User, file.Group, isLink ? Text(file.LinkTarget) : null,
            Base64(file.Path), isLink ? Base64(file.LinkTarget) : null);
    }

    public static FileChange Of(GuestFileChange change) => new(
        change.Path.Length == 0 ? null : Text(change.Path), change.Target.Length == 0 ? null : Text(change.Target),
        change.IsDirectory ? true : null, Base64(change.Path), Base64(change.Target));

    /// <summary>The permission bits in octal, four digits.</summary>
    public static string ModeOf(GuestFile file) => Convert.ToString(file.Mode, 8).PadLeft(4, '0');

    private static byte[] NameOf(byte[] path)
    {
        var end = path.Length > 1 && path[^1] == '/' ? path.Length - 1 : path.Length;
        var name = path[(path.AsSpan(0, end).LastIndexOf((byte)'/') + 1)..end];
        return name.Length == 0 ? path : name;
    }

    private static string Text(byte[] bytes) => Encoding.UTF8.GetString(bytes);

    private static string? Base64(byte[] bytes)
    {
        try
        {
            _ = Strict.GetCharCount(bytes);
            return null;
        }
        catch (DecoderFallbackException)
        {
            return Convert.ToBase64String(bytes);
        }
    }
}
