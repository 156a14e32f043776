using Pandora.Engine.Templates;
using Pandora.Linux;
using Pandora.Vmm.Host;

namespace Pandora.Bench;

/// <summary>
/// A handwritten script that boots a machine from the same files: namespace, tap, disk, VMM, and SSH attempts until the guest answers.
/// Without a jail, NAT and records.
/// </summary>
internal static class BareScript
{
    private const string Frame = """
        set -e
        ns=pandora-bench-$$; work=$1; template=$2; key=$3
        undo() { kill -9 $vmm 2> /dev/null || true; wait $vmm 2> /dev/null || true; ip netns del $ns; rm -f "$work/disk"; }
        trap undo EXIT
        ip netns add $ns
        ip -n $ns -batch - <<END
        link set lo up
        tuntap add dev tap0 mode tap
        addr add 172.16.0.1/30 dev tap0
        link set tap0 up
        neigh replace 172.16.0.2 lladdr 02:fc:00:00:00:02 nud permanent dev tap0
        END
        cp --sparse=always "$template/disk.ext4" "$work/disk"
        VMM > /dev/null 2>&1 &
        vmm=$!
        until nsenter --net=/run/netns/$ns ssh -i "$key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
            -o ConnectTimeout=1 root@172.16.0.2 true 2> /dev/null; do sleep 0.02; done
        date +%s%N
        """;

    private const string Qemu = """
        nsenter --net=/run/netns/$ns qemu-system-x86_64 -M microvm -accel tcg,thread=single,tb-size=64 -cpu max -m 256 -smp 1 \
            -nodefaults -no-user-config -nographic -no-reboot \
            -kernel "$template/vmlinux" -initrd "$work/initrd" \
            -append "console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off reboot=t tsc_early_khz=TSC tsc=reliable" \
            -drive if=none,id=b,format=raw,read-only=on,file="$template/rootfs.ext4" -device virtio-blk-device,drive=b \
            -drive if=none,id=w,format=raw,discard=unmap,cache=unsafe,file="$work/disk" -device virtio-blk-device,drive=w \
            -netdev tap,id=n,ifname=tap0,script=no,downscript=no -device virtio-net-device,netdev=n,mac=02:fc:00:00:00:02
        """;

    private const string FirecrackerArguments =
        "console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off reboot=k 8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.dumbkbd";

    // Firecracker reads a configuration file, which is the quickest way to start it.
    private const string Firecracker = """
        nsenter --net=/run/netns/$ns FIRECRACKER --no-api --config-file /dev/stdin <<END
        {
          "machine-config": {"vcpu_count": 1, "mem_size_mib": 256},
          "boot-source": {"kernel_image_path": "$template/vmlinux", "initrd_path": "$work/initrd",
            "boot_args": "ARGUMENTS"},
          "drives": [{"drive_id": "root", "path_on_host": "$template/rootfs.ext4",
              "is_root_device": false, "is_read_only": true, "cache_type": "Unsafe"},
            {"drive_id": "disk", "path_on_host": "$work/disk", "is_root_device": false, "is_read_only": false, "cache_type": "Unsafe"}],
          "network-interfaces": [{"iface_id": "eth0", "guest_mac": "02:fc:00:00:00:02", "host_dev_name": "tap0"}],
          "entropy": {}
        }
        END
        """;

    /// <summary>Boots one machine, runs a command in it and ends it. Returns the time to the end of the command.</summary>
    /// <param name="target">The VMM to use.</param>
    /// <param name="template">The template to boot.</param>
    /// <param name="work">Directory with the machine's initrd.</param>
    /// <param name="key">Path of the private SSH key.</param>
    public static async Task<TimeSpan> RunAsync(Target target, Template template, string work, string key)
    {
        // The VMM's command is a shell function, because no redirection can follow the last line of a here-document.
        var vmm = target.Firecracker is null
            ? Qemu.Replace("TSC", $"{HostTsc.KiloHertz}", StringComparison.Ordinal)
            : Firecracker
                .Replace("FIRECRACKER", target.Firecracker, StringComparison.Ordinal)
                .Replace("ARGUMENTS", $"{FirecrackerArguments} {template.KernelArguments}", StringComparison.Ordinal);
        var body = vmm.Replace("nsenter ", "exec nsenter ", StringComparison.Ordinal);
        var frame = Frame.Replace("VMM", "vmm", StringComparison.Ordinal);
        var script = $"vmm() {{\n{body}\n}}\n{frame}";
        var begin = TimeProvider.System.GetUtcNow();
        var end = await Command.RunAsync("bash", ["-c", script, "bare", work, template.Directory, key]);
        return DateTimeOffset.UnixEpoch.AddTicks(long.Parse(end.Trim()) / 100) - begin;
    }
}
