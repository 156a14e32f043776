using System.Buffers.Text;

namespace Pandora.Engine.Guests.Files;

/// <summary>How far the pages of a list are: a text that front ends give to clients, who give it back for the next page.</summary>
/// <param name="Directory">Length of the path of the directory that is listed, with its last slash; 0 before the first page.</param>
/// <param name="After">The last entry, relative to the directory: <see cref="FileSpec.After"/> of the next page.</param>
public readonly record struct ListPosition(int Directory, byte[] After)
{
    private const int Prefix = 2;

    /// <summary>Reads what a client gives back.</summary>
    /// <param name="text">The text; null for the first page.</param>
    /// <exception cref="PandoraException">It is no such text.</exception>
    public static ListPosition Parse(string? text)
    {
        if (text is null)
        {
            return new(0, []);
        }

        var bytes = Base64Url.IsValid(text) ? Base64Url.DecodeFromChars(text) : [];
        return bytes.Length > Prefix
            ? new((bytes[0] << 8) | bytes[1], bytes[Prefix..])
            : throw PandoraException.Invalid("after", "must be the value of next of the page before");
    }

    /// <summary>The text for the page after one.</summary>
    /// <param name="page">The page that began at this position.</param>
    /// <returns>The text; null when the list is over.</returns>
    /// <exception cref="PandoraException">The guest listed a file of another directory.</exception>
    public string? NextOf(FileAnswer page)
    {
        ArgumentNullException.ThrowIfNull(page);
        if (!page.Outcome.HasMore || page.Files.Count == 0)
        {
            return null;
        }

        // The first of all entries is in the directory itself.
        var directory = Directory > 0 ? Directory : page.Files[0].Path.AsSpan().LastIndexOf((byte)'/') + 1;
        var last = page.Files[^1].Path;
        if (directory > ushort.MaxValue || directory >= last.Length)
        {
            throw new PandoraException(PandoraError.GuestUnreachable, "the guest's agent listed a file of another directory");
        }

        return Base64Url.EncodeToString([(byte)(directory >> 8), (byte)directory, .. last.AsSpan(directory)]);
    }
}
