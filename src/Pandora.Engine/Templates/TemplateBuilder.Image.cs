using Pandora.Linux;

namespace Pandora.Engine.Templates;

/// <summary>A root filesystem of the user's own: an ext4 image that Pandora's files are added to.</summary>
/// <remarks>
/// debugfs works inside the image, which nobody mounts: no link of it leads to the host. Three ways of debugfs to mind: it answers 0
/// whatever happens, it follows a link in the middle of a name but not at the end (hence the "/." behind directories), and it stays in the
/// image's root after a <c>cd</c> that failed. So each directory is looked at first, and each file is read again by its whole name, which
/// debugfs follows as the guest's kernel will.
/// </remarks>
public sealed partial class TemplateBuilder
{
    private static async Task UseRootImageAsync(TemplateSpec spec, string work, Template template, CancellationToken cancellationToken)
    {
        var image = spec.RootPath!;
        SparseFile.Copy(image, template.RootPath);
        // Requests hold no name of the host's, which may have spaces and quotes: they are relative to this directory.
        var files = Directory.CreateDirectory(Path.Combine(Path.GetFullPath(work), "files")).FullName;
        foreach (var (path, package) in new[] { ("/bin/bash", "bash"), ("/usr/sbin/dropbear", "dropbear-bin") })
        {
            // A merged /usr may be a link, or not be merged at all: both spellings are tried.
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
                    $"'{image}': {directory} is no directory, and could not be made one: is it a file, or a link that leads to no "
                        + "directory in the image? (It must be an ext4 image with a few free MiB and no errors: e2fsck -f.)");
            }
        }

        await File.WriteAllBytesAsync(Path.Combine(files, "init"), ReadResource("guest/init"), cancellationToken);
        File.Copy(Busybox(work), Path.Combine(files, "busybox"));
        File.Copy(spec.AgentPath, Path.Combine(files, "agent"));
        string[] names = ["init", "busybox", "agent"];
        // An image that an earlier template was made with has older ones, which are not written over.
        await DebugAsync(
            [$"cd /{GuestDirectory}/.", .. names.SelectMany(n => new[] { $"rm {n}", $"write {n} {n}", $"sif {n} mode 0100755" })]);
        foreach (var name in names)
        {
            var path = $"/{GuestDirectory}/{name}";
            var written = new FileInfo(Path.Combine(files, name));
            var isThere = await StatAsync(path) is { } found && found.Contains("Type: regular", StringComparison.Ordinal)
                && found.Contains($"Size: {written.Length}\n", StringComparison.Ordinal);
            if (!isThere || !await ReadsAsAsync(path, written.FullName))
            {
                throw new StartupException(
                    $"'{image}': {path} could not be written: is a directory in its place, or is it no ext4 image with a few free MiB "
                        + "and no errors (e2fsck -f)?");
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
