using Pandora.Linux;

namespace Pandora.Engine.Templates;

/// <content>Root images: one that the user brings is copied and not changed. Each image is checked for what the guest needs.</content>
/// <remarks>
/// debugfs reads the image, which is never mounted: so no link in the image leads to the host. debugfs has two particular habits: its exit
/// code is always 0; and it follows a link in the middle of a name but not at the end (hence the "/." after directories), as the guest's
/// kernel does with the image as its root.
/// </remarks>
public sealed partial class TemplateBuilder
{
    private static readonly string[] MountPoints = ["proc", "sys", "dev", "run"];

    private async Task UseRootImageAsync(TemplateSpec spec, Template template, CancellationToken cancellationToken)
    {
        var image = spec.RootPath!;
        SparseFile.Copy(image, template.RootPath);
        if (!await HasProgramAsync("/bin/bash"))
        {
            throw new StartupException($"'{image}' has no /bin/bash: install the package bash in it (it must be an ext4 image)");
        }

        if (!await HasProgramAsync("/usr/sbin/dropbear"))
        {
            report("    it has no SSH server (dropbear): commands need the agent's device, virtio-console (QEMU) or vsock (Firecracker)");
        }

        // In an image with a merged /usr, /bin is a link; in others it is a directory. Both paths are tried.
        async Task<bool> HasProgramAsync(string path) =>
            await StatAsync(template.RootPath, path, cancellationToken) is not null
            || await StatAsync(template.RootPath, $"/usr{path}", cancellationToken) is not null;
    }

    // The guest makes a mount point that is missing.
    private static async Task CheckMountPointsAsync(TemplateSpec spec, Template template, CancellationToken cancellationToken)
    {
        Task<string?> StatImageAsync(string path) => StatAsync(template.RootPath, path, cancellationToken);
        var image = spec.RootPath is { } path ? $"'{path}'" : "the root filesystem";
        foreach (var mountPoint in MountPoints)
        {
            if (await StatImageAsync($"/{mountPoint}") is not null && !IsDirectory(await StatImageAsync($"/{mountPoint}/.")))
            {
                throw new StartupException(
                    $"{image}: /{mountPoint} is no directory. Is it a file, or a link that leads to no directory in the image?");
            }
        }

        // The initrd mounts on this directory before the image is the guest's root, so a link would lead into the initrd.
        var parts = GuestDirectory.Split('/');
        for (var count = 1; count <= parts.Length; count++)
        {
            var directory = $"/{string.Join('/', parts[..count])}";
            if (await StatImageAsync(directory) is { } found && !IsDirectory(found))
            {
                throw new StartupException($"{image}: {directory} must be a directory, and no link: the guest mounts /{GuestDirectory}");
            }
        }

        static bool IsDirectory(string? found) => found is not null && found.Contains("Type: directory", StringComparison.Ordinal);
    }

    // What debugfs says of a file in the image; null when there is no such file.
    private static async Task<string?> StatAsync(string image, string path, CancellationToken cancellationToken)
    {
        string[] arguments = ["-R", $"stat {path}", Path.GetFullPath(image)];
        var answer = await Command.RunAsync("debugfs", arguments, cancellationToken: cancellationToken);
        return answer.Contains("Inode:", StringComparison.Ordinal) ? answer : null;
    }
}
