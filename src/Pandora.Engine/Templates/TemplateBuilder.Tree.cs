using System.Text;
using Pandora.Linux;

namespace Pandora.Engine.Templates;

/// <content> A root filesystem from packages: (1) mmdebstrap unpacks and installs the packages, (2) the set-up script runs in the tree, (3)
/// Pandora's settings are added. After (2) any name in the tree may be a link that leads outside: so programs work in the tree by chroot
/// only, and this class by <see cref="RootedDirectory"/> only.
/// </content>
public sealed partial class TemplateBuilder
{
    private const UnixFileMode Plain = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead;
    // Programs of the tree are found as in a guest. The host's PATH may have directories that lead nowhere there.
    private const string TreePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

    private const string AptSettings = "etc/apt/apt.conf.d/00pandora-setup", NoDaemons = "usr/sbin/policy-rc.d";

    // All that ssh-keygen -A has ever made.
    private static readonly string[] HostKeyAlgorithms = ["dsa", "ecdsa", "ed25519", "rsa"];

    // Runs the set-up script in a chroot with separate mounts. When the script ends, the mounts and all its processes end with it.
    // mmdebstrap's own hook is not safe, because after the script it works from outside of the chroot: it empties the directories that /tmp
    // and /run lead to on the host; it removes files in the host's /dev and /usr/sbin if these are links; and if the script emptied /tmp,
    // and so removed apt's configuration, it empties the host's own package lists. So this script empties those directories itself, unless
    // they are links by then.
    private const string SetupSession = """
        set -e
        busybox mount -t proc -o ro,nosuid,nodev,noexec proc /proc
        busybox mount -t sysfs -o ro,nosuid,nodev,noexec sys /sys
        busybox mount -t tmpfs -o nosuid,mode=755 dev /dev
        for device in "null c 1 3" "zero c 1 5" "full c 1 7" "random c 1 8" "urandom c 1 9" "tty c 5 0"; do
            mknod -m 666 /dev/$device
        done
        mkdir /dev/pts
        mkdir -m 1777 /dev/shm
        busybox mount -t devpts -o nosuid,noexec,mode=620,ptmxmode=666 devpts /dev/pts
        for link in ptmx:pts/ptmx fd:/proc/self/fd stdin:/proc/self/fd/0 stdout:/proc/self/fd/1 stderr:/proc/self/fd/2; do
            ln -s "${link#*:}" "/dev/${link%%:*}"
        done
        bash -e "/tmp/$1"
        for directory in /tmp /run /var/lib/apt/lists /var/cache/apt; do
            [ ! -h "$directory" ] && [ -d "$directory" ] || continue
            case $directory in
                /var/*) set -- -type f ! -name lock ;;
                *) set -- -maxdepth 1 ! -name lock ;;
            esac
            find "$directory" -xdev -mindepth 1 "$@" -exec rm -rf --one-file-system {} +
        done
        # Logs of the installation only take room.
        rm -f /var/log/{dpkg,alternatives,apt/history,apt/term}.log /var/log/apt/eipp.log.xz \
            /var/cache/ldconfig/aux-cache 2> /dev/null || true
        """;

    private async Task InstallPackagesAsync(
        TemplateSpec spec, AptSources sources, string work, string tree, CancellationToken cancellationToken)
    {
        var packages = Encoding.UTF8.GetString(ReadResource("guest/packages.txt")).Split('\n').Where(l => l.Length > 0 && l[0] != '#')
            .Concat(spec.Packages);
        var sourceFile = Path.Combine(work, "sources.list");
        await File.WriteAllLinesAsync(sourceFile, sources.BuildLines, cancellationToken);
        List<string> arguments =
        [
            "--variant=essential", "--mode=root", $"--include={string.Join(',', packages)}",
            "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=path-exclude=/usr/share/info/*", "--dpkgopt=force-unsafe-io",
        ];
        if (sources.BuildOptions.Count > 0)
        {
            // In a file, because the options may contain a proxy's password, and every user can read command lines.
            var options = Path.Combine(work, "apt.conf");
            await File.WriteAllLinesAsync(options, sources.BuildOptions, cancellationToken);
            arguments.Add($"--aptopt={options}");
        }

        if (spec.SetupScriptPath is not null)
        {
            // The script may install packages, and needs the package lists for that.
            arguments.Add("--skip=cleanup/apt");
        }

        // Without --quiet, which hides apt's messages when it fails.
        await AptErrors.RunAsync("mmdebstrap", [.. arguments, sources.Suite, tree, sourceFile], "installing packages", line =>
        {
            if (line.StartsWith("I: ", StringComparison.Ordinal) && line.EndsWith("...", StringComparison.Ordinal)
                && !line.Contains("sign", StringComparison.Ordinal))
            {
                report($"    {line[3..]}");
            }
        }, cancellationToken);

        // The distribution's pip refuses to install outside of a virtual environment (PEP 668), to protect the system's packages. A microVM
        // is thrown away, so there is nothing to protect. pip knows this setting since 23.0.1 (Debian 12) and ignores it before. The
        // marker file EXTERNALLY-MANAGED would come back with each update of Python. This is written before the set-up script runs, so
        // that the script can use pip, and can write settings of its own.
        using var root = RootedDirectory.Open(tree);
        root.WriteFile("etc/pip.conf", "[global]\nbreak-system-packages = true\n"u8, Plain);
    }

    private static async Task RunSetupScriptAsync(string script, string tree, CancellationToken cancellationToken)
    {
        var name = Path.GetFileName(script);
        using (var root = RootedDirectory.Open(tree))
        {
            root.WriteFile(AptSettings, "APT::Install-Recommends \"0\";\nAcquire::Languages \"none\";\n"u8, Plain);
            root.WriteFile(NoDaemons, "#!/bin/sh\nexit 101\n"u8, Executable);
            await root.CopyFileAsync(script, $"tmp/{name}", Executable, cancellationToken);
        }

        try
        {
            var environment = new Dictionary<string, string>
            {
                ["DEBIAN_FRONTEND"] = "noninteractive",
                ["DEBCONF_NONINTERACTIVE_SEEN"] = "true",
                ["LC_ALL"] = "C.UTF-8",
                ["PATH"] = TreePath,
            };
            await Command.RunAsync(
                "unshare", ["--mount", "--pid", "--fork", "--kill-child", "chroot", tree, "bash", "-c", SetupSession, "set-up", name],
                environment: environment, cancellationToken: cancellationToken);
        }
        catch (CommandException e)
        {
            throw new CommandException(e.Tool, e.ExitCode, $"the set-up script '{script}' failed: {e.Message}");
        }
    }

    // Adds what no package contains: names, users, sources without secrets, and the directories that the guest mounts on.
    private static async Task FinishTreeAsync(TemplateSpec spec, string tree, AptSources sources, CancellationToken cancellationToken)
    {
        using var root = RootedDirectory.Open(tree);
        void Write(string path, params IEnumerable<string> lines) =>
            root.WriteFile(path, Encoding.UTF8.GetBytes(string.Concat(lines.Select(l => l + "\n"))), Plain);
        foreach (var buildFile in new[] { AptSettings, "etc/apt/apt.conf.d/99mmdebstrap", "etc/machine-id" })
        {
            root.Delete(buildFile);
        }

        // The package openssh-server makes keys when it is installed, and all microVMs would share them. Each has a key of its own.
        foreach (var algorithm in HostKeyAlgorithms)
        {
            root.Delete($"etc/ssh/ssh_host_{algorithm}_key");
            root.Delete($"etc/ssh/ssh_host_{algorithm}_key.pub");
        }

        if (spec.SetupScriptPath is not null)
        {
            root.Delete(NoDaemons);
        }

        root.DeleteFiles("etc/apt/sources.list.d");
        Write("etc/apt/sources.list", sources.GuestLines);
        Write("etc/apt/apt.conf.d/90pandora", sources.GuestOptions);
        Write("etc/resolv.conf", "nameserver 172.16.0.1");
        Write("etc/hosts", "127.0.0.1 localhost", "::1 localhost");
        root.WriteFile("etc/sudoers.d/pandora", "user ALL=(ALL) NOPASSWD: ALL\n"u8, UnixFileMode.UserRead | UnixFileMode.GroupRead);
        await Command.RunAsync("chroot", [tree, "useradd", "--create-home", "--uid", "1000", "--shell", "/bin/bash", "user"],
            environment: new Dictionary<string, string> { ["PATH"] = TreePath }, cancellationToken: cancellationToken);
        foreach (var mountPoint in MountPoints.Append(GuestDirectory))
        {
            root.CreateDirectory(mountPoint);
        }
    }
}
