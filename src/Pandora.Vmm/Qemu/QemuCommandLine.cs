using System.Runtime.InteropServices;

namespace Pandora.Vmm.Qemu;

/// <summary>
/// Makes QEMU's command line: the <c>microvm</c> machine on x86_64, and <c>virt</c> on aarch64, which has no <c>microvm</c>.
/// </summary>
internal static class QemuCommandLine
{
    /// <summary>Device name of the console's ring buffer.</summary>
    public const string ConsoleDevice = "console";

    /// <summary>Size of the console's ring buffer in bytes: new output overwrites old output.</summary>
    public const int ConsoleBytes = 64 * 1024;

    /// <summary>The name of the QEMU program for an architecture.</summary>
    public static string BinaryFor(Architecture architecture) => architecture switch
    {
        Architecture.X64 => "qemu-system-x86_64",
        Architecture.Arm64 => "qemu-system-aarch64",
        _ => throw new PlatformNotSupportedException($"Pandora runs on x86_64 and aarch64, not on {architecture}"),
    };

    /// <summary>
    /// The guest's processor. An emulated one does not offer ERMS: programs and kernels that see it copy memory byte by byte with
    /// <c>rep movsb</c>, which QEMU emulates slowly. Python copied 228 MB/s with it, and 2,249 MB/s without.
    /// </summary>
    public static string ProcessorFor(Architecture architecture, bool useKvm) => (useKvm, architecture) switch
    {
        (true, _) => "host",
        (false, Architecture.Arm64) => "max",
        _ => "max,-erms",
    };

    /// <summary>Makes the arguments, without the program.</summary>
    /// <param name="spec">The machine.</param>
    /// <param name="architecture">Host and guest architecture.</param>
    /// <param name="useKvm">Whether to use KVM; else TCG.</param>
    /// <param name="tscKiloHertz">Rate of the host's time stamp counter; needed with TCG on x86_64.</param>
    /// <param name="canRunWith">Whether this QEMU knows <c>-run-with user=</c>, which replaces <c>-runas</c>.</param>
    /// <param name="restored">The snapshot from which to start; null to boot.</param>
    public static IReadOnlyList<string> Create(
        VirtualMachineSpec spec,
        Architecture architecture,
        bool useKvm,
        long? tscKiloHertz,
        bool canRunWith,
        SnapshotFiles? restored = null)
    {
        var isArm = architecture == Architecture.Arm64;
        var memory = restored?.MemoryPath ?? spec.SnapshotMemoryPath;
        List<string> arguments =
        [
            "-M", (isArm ? "virt" : "microvm") + (memory is null ? "" : ",memory-backend=ram"),
            // tb-size bounds the translation cache: a busy guest would let it grow to more than a gigabyte.
            "-accel", useKvm ? "kvm" : $"tcg,thread={(spec.VcpuCount == 1 ? "single" : "multi")},tb-size=64",
            "-cpu", ProcessorFor(architecture, useKvm),
            "-m", $"{spec.MemoryMiB}",
            "-smp", $"{spec.VcpuCount}",
            "-nodefaults", "-no-user-config", "-nographic",
            // A guest that stops is paused, so that its console can be read. The server receives an event and kills QEMU.
            "-action", "reboot=shutdown,shutdown=pause,panic=pause",
            .. restored is null
                ? new[]
                {
                    "-kernel", spec.KernelPath,
                    "-initrd", spec.InitrdPath,
                    "-append", KernelArguments(spec, isArm, useKvm, tscKiloHertz),
                }
                : ["-incoming", "defer"],
            .. MemoryBackend(spec, memory, isRestored: restored is not null),
            "-chardev", $"ringbuf,id={ConsoleDevice},size={ConsoleBytes}",
            "-serial", $"chardev:{ConsoleDevice}",
            "-qmp", $"unix:{Escape(QemuVmm.SocketPath(spec.Directory))},server=on,wait=off",
        ];
        for (var i = 0; i < spec.Drives.Count; i++)
        {
            var drive = spec.Drives[i];
            var access = drive.IsReadOnly ? "read-only=on" : "auto-read-only=off,discard=unmap,cache=unsafe";
            arguments.AddRange([
                "-drive", $"if=none,id=drive{i},format=raw,{access},{Throttle(spec.Limits)}file={Escape(drive.Path)}",
                // When the host's disk is full, the guest waits and loses nothing. All other errors are reported to the guest.
                "-device", $"virtio-blk-device,drive=drive{i}{(drive.IsReadOnly ? "" : ",werror=enospc,rerror=report")}",
            ]);
        }

        if (isArm)
        {
            // The machine virt assigns its virtio-mmio slots from the last device to the first.
            var first = arguments.IndexOf("-drive");
            var pairs = arguments[first..].Chunk(4).Reverse().SelectMany(pair => pair).ToList();
            arguments.RemoveRange(first, arguments.Count - first);
            arguments.AddRange(pairs);
        }

        arguments.AddRange(
        [
            "-netdev", $"tap,id=net0,ifname={spec.Network.TapName},script=no,downscript=no",
            "-device", $"virtio-net-device,netdev=net0,mac={spec.Network.MacAddress}",
            "-device", "virtio-serial-device",
            "-chardev", $"socket,id=agent,path={Escape(QemuVmm.AgentSocketPath(spec.Directory))},server=on,wait=off",
            "-device", $"virtserialport,chardev=agent,name={spec.Channels.Agent.PortName}",
            .. StreamsPort(spec),
            canRunWith ? "-run-with" : "-runas", canRunWith ? $"user={spec.Uid}:{spec.Uid}" : $"{spec.Uid}:{spec.Uid}",
            "-sandbox", "on,obsolete=deny,spawn=deny,resourcecontrol=deny",
        ]);
        return arguments;
    }

    // A device of its own, so that no stream waits for a question, and no question for a stream.
    private static string[] StreamsPort(VirtualMachineSpec spec) => spec.Channels.Streams is not { } streams
        ? []
        :
        [
            "-chardev", $"socket,id=streams,path={Escape(QemuVmm.StreamsSocketPath(spec.Directory))},server=on,wait=off",
            "-device", $"virtserialport,chardev=streams,name={streams.PortName}",
        ];

    // A machine that will be snapshotted writes to the file (share=on). A machine that starts from it gets a copy on write (share=off).
    private static string[] MemoryBackend(VirtualMachineSpec spec, string? path, bool isRestored)
    {
        if (path is null)
        {
            return [];
        }

        var share = isRestored ? "off" : "on";
        return ["-object", $"memory-backend-file,id=ram,size={spec.MemoryMiB}M,mem-path={Escape(path)},share={share}"];
    }

    private static string KernelArguments(VirtualMachineSpec spec, bool isArm, bool useKvm, long? tscKiloHertz)
    {
        var console = isArm ? "ttyAMA0" : "ttyS0";
        var own = $"console={console} quiet panic=-1 cryptomgr.notests mitigations=off";
        if (!isArm)
        {
            own += " reboot=t";
            if (!useKvm && tscKiloHertz is not null)
            {
                // Without this rate, guests on a busy host hang while they calibrate their clock.
                own += $" tsc_early_khz={tscKiloHertz} tsc=reliable";
            }
        }

        return spec.KernelArguments.Length == 0 ? own : $"{own} {spec.KernelArguments}";
    }

    private static string Throttle(DeviceLimits limits) =>
        (limits.DiskBytesPerSecond > 0 ? $"throttling.bps-total={limits.DiskBytesPerSecond}," : "")
        + (limits.DiskOperationsPerSecond > 0 ? $"throttling.iops-total={limits.DiskOperationsPerSecond}," : "");

    // A comma ends an option's value unless it is doubled.
    private static string Escape(string path) => path.Replace(",", ",,", StringComparison.Ordinal);
}
