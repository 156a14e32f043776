using Pandora.Linux;

namespace Pandora.Engine.Templates;

/// <content>A root filesystem that the user brings: Pandora's files are added to an ext4 image.</content>
/// <remarks>
/// debugfs works inside the image, which is never mounted: so no link in the image leads to the host. debugfs has three particular habits:
/// its exit code is always 0; it follows a link in the middle of a name but not at the end (hence the "/." after directories); and it stays
/// in the image's root after a <c>cd</c> that failed. So each directory is checked first, and each file is read again by its whole name.
/// debugfs follows the links in that name as the guest's kernel does.
/// </remarks>
public sealed partial class TemplateBuilder
{
    private static async Task UseRootImageAsync(TemplateSpec spec, string work, Template template, CancellationToken cancellationToken)
    {
        var image = spec.RootPath!;
        SparseFile.Copy(image, template.RootPath);
        // Paths of the host may have spaces and quotes. So the requests contain none: their names are relative to this directory.
        var files = Directory.CreateDirectory(Path.Combine(Path.GetFullPath(work), "files")).FullName;
        foreach (var (path, package) in new[] { ("/bin/bash", "bash"), ("/usr/sbin/dropbear", "dropbear-bin") })
        {
            // In an image with a merged /usr, /bin is a link; in others it is a directory. Both paths are tried.
            if (await StatAsync(path) is null && await StatAsync($"/usr{path}") is null)
            {
                throw new StartupException($"'{image}' has no {path}: install the package {package} in it (it must be an ext4 image)");
            }
        }

        string[] mountPoints = ["/proc", "/sys", "/dev", "/run"];
        await DebugAsync(["mkdir /usr/lib/./pandora", .. mountPoints.Select(m => $"mkdir {m}")]);
        foreach (var directory in mountPoints.Prepend($"/{GuestDirectory}"))
        {
            if (await StatAsync($"{directory}/.") is not { } found || !found.Contains("Type: directory", StringComparison.Ordinal))
            {
                throw new StartupException(
                    $"'{image}': {directory} is no directory and could not be made. Is it a file, or a link that leads to no directory in "
                        + "the image? The image must be ext4, with a few free MiB and no errors (e2fsck -f)");
            }
        }

        await File.WriteAllBytesAsync(Path.Combine(files, "init"), ReadResource("guest/init"), cancellationToken);
        File.Copy(Busybox(work), Path.Combine(files, "busybox"));
        File.Copy(spec.AgentPath, Path.Combine(files, "agent"));
        string[] names = ["init", "busybox", "agent"];
        // An image that an earlier template was made from has older files. debugfs does not overwrite a file, so they are removed first.
        await DebugAsync(
            [$"cd /{GuestDirectory}/.", .. names.SelectMany(n => new[] { $"rm {n}", $"write {n} {n}", $"sif {n} mode 0100755" })]);
        foreach (var name in names)
        {
            var path = $"/{GuestDirectory}/{name}";
            var written = new FileInfo(Path.Combine(files, name));
            var isWritten = await StatAsync(path) is { } found && found.Contains("Type: regular", StringComparison.Ordinal)
                && found.Contains($"Size: {written.Length}\n", StringComparison.Ordinal);
            if (!isWritten || !await ReadsAsAsync(path, written.FullName))
            {
                throw new StartupException(
                    $"'{image}': {path} could not be written. Is there a directory of that name? The image must be ext4, with a few free "
                        + "MiB and no errors (e2fsck -f)");
            }
        }

        async Task<string?> StatAsync(string path) =>
            await DebugAsync([$"stat {path}"]) is var answer && answer.Contains("Inode:", StringComparison.Ordinal) ? answer : null;

        async Task<bool> ReadsAsAsync(string path, string source)
        {
            await DebugAsync([$"dump {path} read"]);
            var read = await File.ReadAllBytesAsync(Path.Combine(files, "read"), cancellationToken);
            var expected = await File.ReadAllBytesAsync(source, cancellationToken);
            return read.AsSpan().SequenceEqual(expected);
        }

        async Task<string> DebugAsync(IReadOnlyList<string> requests)
        {
            await File.WriteAllLinesAsync(Path.Combine(files, "requests"), requests, cancellationToken);
            return await Command.RunAsync(
                "sh", ["-c", "cd \"$1\" && exec debugfs -w -f requests \"$2\"", "debugfs", files, Path.GetFullPath(template.RootPath)],
                cancellationToken: cancellationToken);
        }
    }
}
