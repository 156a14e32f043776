using System.Formats.Tar;

namespace Pandora.HostTests;

/// <summary>Archives that no honest program makes.</summary>
internal static class FileArchives
{
    /// <summary>Archives that must be refused, by what is wrong with each.</summary>
    public static IEnumerable<(string Name, byte[] Archive)> Hostile =>
    [
        ("an absolute path", Of(File("/evil"))),
        ("a path out of the directory", Of(File("../evil"))),
        ("a path out of the directory, further in", Of(File("a/../../evil"))),
        ("a file through a link of the archive", Of(Link(TarEntryType.SymbolicLink, "way", "/srv/out"), File("way/file"))),
        ("a directory through a link of the archive", Of(Link(TarEntryType.SymbolicLink, "way2", "../out"), Directory("way2/evil"))),
        ("a hard link out", Of(Link(TarEntryType.HardLink, "hard", "../out/file"))),
        ("a hard link to an absolute path", Of(Link(TarEntryType.HardLink, "hard", "/srv/out/file"))),
        ("a device", Of(new PaxTarEntry(TarEntryType.CharacterDevice, "device") { DeviceMajor = 1, DeviceMinor = 5 })),
        ("an archive that is cut off", Of(File("whole"))[..700]),
        ("no archive", [.. Enumerable.Repeat((byte)'x', 2048)]),
    ];

    /// <summary>An archive with one file.</summary>
    public static byte[] OfOne(string name, byte[] content) => Of(File(name, content));

    private static PaxTarEntry File(string name, byte[]? content = null) =>
        new(TarEntryType.RegularFile, name) { DataStream = new MemoryStream(content ?? "evil"u8.ToArray()) };

    private static PaxTarEntry Directory(string name) => new(TarEntryType.Directory, name);

    private static PaxTarEntry Link(TarEntryType type, string name, string target) => new(type, name) { LinkName = target };

    private static byte[] Of(params TarEntry[] entries)
    {
        using var archive = new MemoryStream();
        using (var writer = new TarWriter(archive, leaveOpen: true))
        {
            foreach (var entry in entries)
            {
                writer.WriteEntry(entry);
            }
        }

        return archive.ToArray();
    }
}
