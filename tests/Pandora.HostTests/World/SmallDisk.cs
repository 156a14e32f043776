using Pandora.Linux;

namespace Pandora.HostTests.World;

/// <summary>A small file system of its own in a file, mounted on a new directory. A real one: what is on a tmpfs counts as memory of the
/// VMM that wrote it.</summary>
internal sealed class SmallDisk : IAsyncDisposable
{
    private readonly string _image;

    private SmallDisk(string directory) => (Directory, _image) = (directory, $"{directory}.img");

    /// <summary>Where it is mounted.</summary>
    public string Directory { get; }

    /// <param name="size">Its size, as truncate(1) takes it.</param>
    public static async Task<SmallDisk> CreateAsync(string size)
    {
        var disk = new SmallDisk(System.IO.Directory.CreateTempSubdirectory("pandora-host-").FullName);
        await Command.RunAsync("truncate", ["-s", size, disk._image]);
        await Command.RunAsync("mke2fs", ["-q", "-t", "ext4", "-m", "0", "-O", "^has_journal", disk._image]);
        await Command.RunAsync("mount", ["-o", "loop", disk._image, disk.Directory]);
        System.IO.Directory.Delete(Path.Combine(disk.Directory, "lost+found"));
        return disk;
    }

    public async ValueTask DisposeAsync()
    {
        await Command.RunAsync("umount", [Directory]);
        System.IO.Directory.Delete(Directory);
        File.Delete(_image);
    }
}
