using Pandora.Linux;

namespace Pandora.Engine.Templates;

/// <summary>Formats an empty disk.</summary>
/// <param name="path">The new file.</param>
/// <param name="sizeMib">Size of the disk in MiB.</param>
/// <param name="layout">A directory that does not exist, for the time of the work.</param>
/// <param name="cancellationToken">Kills the tool.</param>
public delegate Task FormatDisk(string path, int sizeMib, string layout, CancellationToken cancellationToken);

/// <summary>Makes ext4 images, with mke2fs(8). Nothing is mounted.</summary>
internal static class Ext4Image
{
    private const UnixFileMode Listed = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute
        | UnixFileMode.GroupRead | UnixFileMode.GroupExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute;

    /// <summary>Makes the disk of a microVM: a sparse file with the two empty directories that overlayfs needs.</summary>
    /// <inheritdoc cref="FormatDisk"/>
    public static async Task MakeDiskAsync(string path, int sizeMib, string layout, CancellationToken cancellationToken)
    {
        // The mode of "upper" is that of the guest's root directory, so it must not depend on this process's umask.
        foreach (var directory in new[] { layout, Path.Combine(layout, "upper"), Path.Combine(layout, "work") })
        {
            Directory.CreateDirectory(directory);
            File.SetUnixFileMode(directory, Listed);
        }

        await MakeAsync(layout, path, sizeMib, "lazy_itable_init=1", cancellationToken);
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        Directory.Delete(layout, recursive: true);
    }

    /// <summary>Makes an image of a tree, without a journal: a root is read-only, and a disk does not outlive its microVM.</summary>
    /// <param name="tree">Directory that becomes the root of the image.</param>
    /// <param name="image">The new file.</param>
    /// <param name="sizeMib">Size of the image in MiB.</param>
    /// <param name="tables">mke2fs's option for the tables of inodes.</param>
    /// <param name="cancellationToken">Kills the tool.</param>
    public static Task MakeAsync(string tree, string image, long sizeMib, string tables, CancellationToken cancellationToken) =>
        Command.RunAsync(
            "mke2fs",
            [
                "-q", "-t", "ext4", "-O", "^has_journal,^resize_inode", "-E", $"{tables},nodiscard", "-m", "0",
                "-d", tree, image, $"{sizeMib}M",
            ],
            cancellationToken: cancellationToken);
}
