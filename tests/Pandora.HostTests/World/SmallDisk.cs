using Pandora.Linux;

namespace Pandora.HostTests.World;

/// <summary>
/// A small ext4 file system in a file, mounted on a new directory. Not a tmpfs: its files would count as memory of the VMM that wrote them.
/// </summary>
internal sealed class SmallDisk : IAsyncDisposable
{
    private readonly string _image;
    private bool _isMounted;

    private SmallDisk(string directory) => (Directory, _image) = (directory, $"{directory}.img");

    /// <summary>Where the file system is mounted.</summary>
    public string Directory { get; }

    /// <summary>Creates and mounts a file system.</summary>
    /// <param name="size">Its size, as truncate(1) reads it.</param>
    public static async Task<SmallDisk> CreateAsync(string size)
    {
        var disk = new SmallDisk(System.IO.Directory.CreateTempSubdirectory("pandora-host-").FullName);
        try
        {
            await Command.RunAsync("truncate", ["-s", size, disk._image]);
            await Command.RunAsync("mke2fs", ["-q", "-t", "ext4", "-m", "0", "-O", "^has_journal", disk._image]);
            await Command.RunAsync("mount", ["-o", "loop", disk._image, disk.Directory]);
            disk._isMounted = true;
            System.IO.Directory.Delete(Path.Combine(disk.Directory, "lost+found"));
            return disk;
        }
        catch
        {
            await disk.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        try
        {
            if (_isMounted)
            {
                await Command.RunAsync("umount", [Directory]);
            }
        }
        catch (CommandException)
        {
            // A leaked process of a test keeps the file system busy. It is unmounted when that process ends, and the test fails.
            await Command.RunAsync("umount", ["--lazy", Directory]);
            throw;
        }
        finally
        {
            File.Delete(_image);
            System.IO.Directory.Delete(Directory);
        }
    }
}
