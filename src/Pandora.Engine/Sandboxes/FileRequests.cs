using System.Globalization;
using System.Text;
using Pandora.Engine.Guests.Files;

namespace Pandora.Engine.Sandboxes;

/// <summary>A client's body could not be read: the client went away, sent it too slowly, or it is no body of HTTP.</summary>
/// <param name="inner">What reading the body threw; it is the answer to the client.</param>
public sealed class FileBodyException(Exception inner) : Exception("the body could not be read", inner);

/// <content>Requests for files.</content>
internal static partial class RequestLimits
{
    public const int MaxPathBytes = 4095, MaxListedFiles = 10_000, MaxListDepth = 64, MaxMode = 0xFFF, MaxAttributeBytes = 4096;

    public static void Check(FileSpec spec)
    {
        var isMove = spec.Action is FileAction.Move or FileAction.Copy;
        CheckPath(isMove ? "from" : "path", spec.Path);
        if (isMove)
        {
            CheckPath("to", spec.Target);
        }

        CheckUser(spec.User);
        if (spec.Owner is { } owner && !IsOwner(owner))
        {
            throw PandoraException.Invalid(
                "owner",
                "must be user, user:group or :group, each a name of lower-case letters, digits, hyphens and underscores, or a number");
        }

        if (spec.Mode is < 0 or > MaxMode)
        {
            throw PandoraException.Invalid("mode", "must be permission bits in octal, 0 to 7777");
        }

        if (spec.Depth is < 1 or > MaxListDepth)
        {
            throw PandoraException.Invalid("depth", $"must be between 1 and {MaxListDepth}, and is {spec.Depth}");
        }

        if (spec.Limit is < 1 or > MaxListedFiles)
        {
            throw PandoraException.Invalid("limit", $"must be between 1 and {MaxListedFiles}, and is {spec.Limit}");
        }

        if (spec.Attributes.Sum(a => Encoding.UTF8.GetByteCount(a.Key) + Encoding.UTF8.GetByteCount(a.Value)) > MaxAttributeBytes
            || spec.Attributes.Any(a => !a.Key.StartsWith("user.", StringComparison.Ordinal) || (a.Key + a.Value).Contains('\0')))
        {
            throw PandoraException.Invalid(
                "attributes", $"must have names that begin with 'user.', and at most {MaxAttributeBytes} bytes with their values");
        }

        if (spec.After.Length > MaxPathBytes || spec.After.Contains((byte)0))
        {
            throw PandoraException.Invalid("after", "must be the value of next of the page before");
        }
    }

    /// <summary>A path for the audit: bytes that are not printable ASCII are percent-encoded; at most 300 characters.</summary>
    public static string Printable(ReadOnlySpan<byte> path)
    {
        const int MaxLength = 300;
        var text = new StringBuilder();
        foreach (var b in path)
        {
            if (text.Length >= MaxLength - 3)
            {
                return text.Append("...").ToString();
            }

            _ = b is > (byte)' ' and < 0x7F and not (byte)'%'
                ? text.Append((char)b)
                : text.Append(CultureInfo.InvariantCulture, $"%{b:X2}");
        }

        return text.ToString();
    }

    private static void CheckPath(string field, byte[] path)
    {
        if (path.Length is 0 or > MaxPathBytes)
        {
            throw PandoraException.Invalid(field, $"must be 1 to {MaxPathBytes} bytes, and is {path.Length}");
        }

        if (path.Contains((byte)0))
        {
            throw PandoraException.Invalid(field, "must not contain a NUL character");
        }
    }

    private static bool IsOwner(string owner) => owner.Split(':') switch
    {
        [var user] => IsUser(user),
        ["", var group] => IsUser(group),
        [var user, var group] => IsUser(user) && IsUser(group),
        _ => false,
    };
}
