namespace Pandora.Client;

/// <summary>One entry of an archive: its header. POSIX.1-2017, pax, "ustar Interchange Format".</summary>
/// <param name="Name">Its name, with <c>/</c> between directories; null when its bytes are not UTF-8.</param>
/// <param name="Type">One of the constants here, or another letter of the format.</param>
/// <param name="Size">Bytes of content.</param>
/// <param name="Mode">Permission bits.</param>
/// <param name="ModifiedAt">When its content was last changed; null when that is no time that .NET has.</param>
/// <param name="LinkTarget">What a link contains; null when its bytes are not UTF-8.</param>
internal sealed record TarEntry(
    string? Name, char Type, long Size, int Mode, DateTimeOffset? ModifiedAt, string? LinkTarget = "")
{
    public const char File = '0', OldFile = '\0', HardLink = '1', Link = '2', CharacterDevice = '3', BlockDevice = '4', Directory = '5',
        Fifo = '6', ContiguousFile = '7';

    /// <summary>Bytes of a block: of a header, and what content is filled up to.</summary>
    public const int Block = 512;
}
