using Pandora.Linux;

namespace Pandora.HostTests.World;

/// <summary>A small file system of its own in a file, mounted on a new directory. A real one: what is on a tmpfs counts as memory of the
/// VMM that wrote it.</summary>
internal sealed class SmallDisk : IAsyncDisposable
{
    private readonly string _image;
    private bool _isMounted;

    private SmallDisk(string directory) => (Directory, _image) = (directory, $"{directory}.img");

    /// <summary>Where it is mounted.</summary>
    public string Directory { get; }

    /// <param name="size">Its size, as truncate(1) takes it.</param>
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
            // Something that a test left keeps it busy. It goes with that, and the failure is told.
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
