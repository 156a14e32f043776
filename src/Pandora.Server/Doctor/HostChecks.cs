using System.Runtime.InteropServices;
using Pandora.Engine;
using Pandora.Engine.Admission;
using Pandora.Engine.Networking;
using Pandora.Engine.Templates;
using Pandora.Vmm.Host;
using Pandora.Vmm;
using Pandora.Vmm.Firecracker;
using Pandora.Linux;
using Pandora.Vmm.Qemu;

namespace Pandora.Server.Doctor;

/// <summary>Checks everything on this host that Pandora needs, and changes nothing.</summary>
internal sealed class HostChecks(EngineOptions options, VmmOptions vmmOptions, TimeProvider time)
{
    private const long MiB = 1024 * 1024;

    private VmmChoice Choice => vmmOptions.Choice(options.DataDir, options.MachineDir);

    /// <summary>Runs all checks, in the order in which the server needs the things that they check.</summary>
    public async Task<IReadOnlyList<HostCheckResult>> RunAsync(CancellationToken cancellationToken) =>
        [
            Root(),
            await VmmAsync(cancellationToken),
            Kvm(),
            await FirecrackerAsync(cancellationToken),
            await QemuAsync(cancellationToken),
            Cgroups(),
            Tun(),
            Programs(),
            await FirewallAsync(cancellationToken),
            Network(),
            Template(),
            RunDirectory(),
            Disk(),
            Memory(),
        ];

    private static HostCheckResult Root() =>
        Environment.IsPrivilegedProcess
            ? new("root", HostCheckStatus.Ok, "the server can make namespaces, taps and VMs")
            : new(
                "root",
                HostCheckStatus.Warning,
                "doctor does not run as root, so the following checks may be incomplete",
                "run 'sudo ./pandora doctor'");

    private async Task<HostCheckResult> VmmAsync(CancellationToken cancellationToken)
    {
        try
        {
            var vmm = await Choice.MakeAsync(time, cancellationToken);
            using var _ = vmm as IDisposable;
            var c = vmm.Capabilities;
            var detail = $"{c.Name} {c.Version} with {c.Accelerator}: {c.AcceleratorReason}; {c.Isolation}";
            if (!c.IsSecurityBoundary)
            {
                return new(
                    "VMM",
                    HostCheckStatus.Warning,
                    detail,
                    "for code that you do not trust, use a machine with KVM; on this host the server listens on loopback only, unless "
                        + "PANDORA_ALLOW_EMULATED=true");
            }

            return c.Warnings.Count > 0
                ? new("VMM", HostCheckStatus.Warning, $"{detail}; {string.Join("; ", c.Warnings)}", "see the warning")
                : new("VMM", HostCheckStatus.Ok, detail);
        }
        catch (VmmException e)
        {
            return new(
                "VMM",
                HostCheckStatus.Problem,
                e.Message,
                "the message says what to do; with PANDORA_VMM=auto and PANDORA_ACCEL=auto the server chooses by itself");
        }
    }

    private static HostCheckResult Kvm() => Kvm(KvmCheck.Run(isX64: RuntimeInformation.ProcessArchitecture == Architecture.X64));

    /// <summary>The result of the check of KVM, and what the operator can do on this host.</summary>
    internal static HostCheckResult Kvm((bool IsUsable, string Reason, bool CanOpen) kvm)
    {
        if (kvm.IsUsable)
        {
            return new("KVM", HostCheckStatus.Ok, kvm.Reason);
        }

        // Some hosts run guests without the CPU flags, but only with a guest kernel that is made for them.
        return new("KVM", HostCheckStatus.Warning, kvm.Reason, kvm.CanOpen
            ? "on a cloud machine: turn on nested virtualisation, or use a bare-metal type; "
                + "if the kernel of your template runs on this host nevertheless: PANDORA_VMM=firecracker and PANDORA_ACCEL=kvm"
            : "load kvm_intel or kvm_amd; in a container: --device /dev/kvm");
    }

    private async Task<HostCheckResult> FirecrackerAsync(CancellationToken cancellationToken)
    {
        if (Choice.Find() is not { } program)
        {
            return new(
                "Firecracker",
                HostCheckStatus.Warning,
                "Firecracker is not installed",
                "'./pandora firecracker install' installs it; it needs KVM");
        }

        try
        {
            var jailer = vmmOptions.Jail ? vmmOptions.Jailer ?? Path.Combine(Path.GetDirectoryName(program)!, "jailer") : null;
            var found = await FirecrackerBinaries.FindAsync(program, jailer, cancellationToken);
            var jail = found.Jailer is null ? "without a jailer (PANDORA_JAIL=false)" : $"jailer {found.Jailer}";
            var detail = $"{found.Firecracker} {found.Version}, {jail}";
            return found.Jailer is null || found.Warning is not null
                ? new(
                    "Firecracker",
                    HostCheckStatus.Warning,
                    detail,
                    found.Warning ?? "unset PANDORA_JAIL: Firecracker without its jailer is for development only")
                : new("Firecracker", HostCheckStatus.Ok, detail);
        }
        catch (VmmException e)
        {
            return new("Firecracker", HostCheckStatus.Warning, e.Message, "'./pandora firecracker install' installs a release that works");
        }
    }

    private async Task<HostCheckResult> QemuAsync(CancellationToken cancellationToken)
    {
        try
        {
            using var qemu = await QemuVmm.CreateAsync(Accelerator.Tcg, "", null, time, cancellationToken);
            return new("QEMU", HostCheckStatus.Ok, $"version {qemu.Capabilities.Version}");
        }
        catch (VmmException e)
        {
            return new(
                "QEMU",
                HostCheckStatus.Warning,
                e.Message,
                "'./pandora up' installs QEMU; it is needed only where Firecracker does not run");
        }
    }

    private static HostCheckResult Cgroups() =>
        CgroupTree.FindControllers() is { Count: > 0 } controllers
            ? new("cgroups", HostCheckStatus.Ok, string.Join(", ", controllers))
            : new(
                "cgroups",
                HostCheckStatus.Warning,
                "no controller can be used: VMMs run without limits of memory and processes",
                "in a container: make the cgroup file system writable (--cgroupns=private, systemd delegation)");

    private static HostCheckResult Tun() =>
        File.Exists("/dev/net/tun")
            ? new("tap devices", HostCheckStatus.Ok, "/dev/net/tun exists")
            : new(
                "tap devices",
                HostCheckStatus.Problem,
                "there is no /dev/net/tun",
                "'modprobe tun'; in a container: --device /dev/net/tun --cap-add NET_ADMIN");

    private static HostCheckResult Programs()
    {
        var missing = new[] { "ip", "nft", "nsenter", "mke2fs", "mmdebstrap", "lz4" }
            .Where(p => FirecrackerBinaries.TryResolve(p) is null)
            .ToList();
        return missing.Count == 0
            ? new("programs", HostCheckStatus.Ok, "all programs that Pandora uses are installed")
            : new("programs", HostCheckStatus.Problem, $"missing: {string.Join(", ", missing)}", "'./pandora up' installs them");
    }

    private static async Task<HostCheckResult> FirewallAsync(CancellationToken cancellationToken)
    {
        try
        {
            var rules = await Command.RunAsync("nft", ["list", "ruleset"], cancellationToken: cancellationToken);
            var drops = rules
                .Split('\n')
                .Count(l => l.Contains("hook forward", StringComparison.Ordinal) && l.Contains("policy drop", StringComparison.Ordinal));
            return drops == 0
                ? new("firewall", HostCheckStatus.Ok, "no other firewall drops forwarded packets")
                : new(
                    "firewall",
                    HostCheckStatus.Ok,
                    $"{drops} chains of other firewalls drop forwarded packets; at its start Pandora adds an accept for its interfaces",
                    "restart Pandora after you install or reload a firewall");
        }
        catch (CommandException e)
        {
            return new(
                "firewall",
                HostCheckStatus.Problem,
                $"nftables cannot be used: {e.Message.Split('\n')[0]}",
                "run as root; in a container: --cap-add NET_ADMIN");
        }
    }

    private HostCheckResult Network()
    {
        try
        {
            var range = HostNetwork.ChooseRange(options.Network);
            return new("network", HostCheckStatus.Ok, $"slots are taken from {range}");
        }
        catch (StartupException e)
        {
            return new("network", HostCheckStatus.Problem, e.Message, "set PANDORA_NETWORK to another range");
        }
    }

    private HostCheckResult Template()
    {
        try
        {
            var template = new TemplateStore(options.TemplatePath).Find(EngineOptions.DefaultTemplate);
            return template is null
                ? new(
                    "template",
                    HostCheckStatus.Warning,
                    $"there is no default template in {options.TemplatePath}",
                    "'./pandora up' builds it (about a minute)")
                : new("template", HostCheckStatus.Ok, $"default, built {template.CreatedAt:yyyy-MM-dd}, {template.MemoryMiB} MiB");
        }
        catch (StartupException e)
        {
            return new("template", HostCheckStatus.Problem, e.Message, "build the template again: './pandora template build --force'");
        }
    }

    private HostCheckResult RunDirectory()
    {
        var directory = Existing(options.RunDir);
        var kind = new DriveInfo(directory).DriveFormat;
        return kind == "tmpfs"
            ? new("run directory", HostCheckStatus.Ok, $"{options.RunDir} is on a tmpfs")
            : new(
                "run directory",
                HostCheckStatus.Warning,
                $"{options.RunDir} is on {kind}: claims may wait for the disk",
                "set PANDORA_RUN_DIR to a directory on a tmpfs, such as /dev/shm/pandora");
    }

    private HostCheckResult Disk()
    {
        var drive = new DriveInfo(Existing(options.DataDir));
        var (free, share) = (drive.AvailableFreeSpace, (double)drive.AvailableFreeSpace / drive.TotalSize);
        var detail = $"{free / MiB / 1024.0:0.0} GiB free for {options.DataDir}";
        if (free < 1024 * MiB)
        {
            return new("disk", HostCheckStatus.Problem, detail, "one template needs 1 GiB: free space, or set PANDORA_DATA_DIR");
        }

        return share < 0.1
            ? new(
                "disk",
                HostCheckStatus.Warning,
                $"{detail}, less than a tenth of the disk",
                "guests that write much will get I/O errors: free space")
            : new("disk", HostCheckStatus.Ok, detail);
    }

    private HostCheckResult Memory()
    {
        var available =
            long.Parse(
                File.ReadLines("/proc/meminfo")
                    .First(l => l.StartsWith("MemAvailable:", StringComparison.Ordinal))
                    .Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) / 1024;
        const int Each = 256;
        // All microVMs together get no more than the budget.
        var budget = (long)(Math.Max(0, HostCapacity.Read().MemoryMib - options.MemoryReserve) * options.MemoryOvercommit);
        var wanted = Math.Min((long)(options.PoolSize + options.MaxSandboxes) * Each, budget);
        if (available < (long)options.PoolSize * Each)
        {
            return new(
                "memory",
                HostCheckStatus.Problem,
                $"{available} MiB are available, and the warm pool alone may use {options.PoolSize * Each} MiB",
                "lower PANDORA_POOL_SIZE");
        }

        return available < wanted
            ? new(
                "memory",
                HostCheckStatus.Warning,
                $"{available} MiB are available; with PANDORA_MAX_SANDBOXES={options.MaxSandboxes} guests may use {wanted} MiB",
                $"PANDORA_MAX_SANDBOXES={Math.Max(1, (available / Each) - options.PoolSize)} fits")
            : new("memory", HostCheckStatus.Ok, $"{available} MiB are available; guests may use {wanted} MiB");
    }

    private static string Existing(string path)
    {
        while (!Directory.Exists(path))
        {
            path = Path.GetDirectoryName(path)!;
        }

        return path;
    }
}
