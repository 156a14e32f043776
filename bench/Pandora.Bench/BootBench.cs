using System.Diagnostics;
using Pandora.Engine.Guest;
using Pandora.Engine.Templates;
using Pandora.Load;
using Pandora.Vmm.Linux;

namespace Pandora.Bench;

/// <summary>Cold boot to the end of the first command: by the server with no warm pool, and by a bare script with the same files, turn by turn.</summary>
internal static class BootBench
{
    private const int Rounds = 7;

    // What somebody would write by hand: namespace, tap, disk, QEMU, and SSH tried until it answers.
    private const string Bare = """
        set -e
        ns=pandora-bench-$$; work=$1; template=$2; key=$3; tsc=$4
        undo() { kill -9 $qemu 2> /dev/null || true; wait $qemu 2> /dev/null || true; ip netns del $ns; rm -f "$work/disk"; }
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
        nsenter --net=/run/netns/$ns qemu-system-x86_64 -M microvm -accel tcg,thread=single,tb-size=64 -cpu max -m 256 -smp 1 -nodefaults -no-user-config -nographic -no-reboot \
            -kernel "$template/vmlinux" -initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off reboot=t tsc_early_khz=$tsc tsc=reliable" \
            -drive if=none,id=b,format=raw,read-only=on,file="$template/rootfs.ext4" -device virtio-blk-device,drive=b \
            -drive if=none,id=w,format=raw,discard=unmap,cache=unsafe,file="$work/disk" -device virtio-blk-device,drive=w \
            -netdev tap,id=n,ifname=tap0,script=no,downscript=no -device virtio-net-device,netdev=n,mac=02:fc:00:00:00:02 > /dev/null 2>&1 &
        qemu=$!
        until nsenter --net=/run/netns/$ns ssh -i "$key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=1 root@172.16.0.2 true 2> /dev/null; do sleep 0.02; done
        date +%s%N
        """;

    public static async Task<Result> RunAsync(string repository, string templates)
    {
        await using var server = await BenchServer.StartAsync(repository, templates, poolSize: 0);
        var template = new TemplateStore(templates).Find(TemplateStore.DefaultName)!;
        using var key = await ClientKey.LoadAsync(server.DataDir, CancellationToken.None);
        var work = Directory.CreateDirectory(Path.Combine(server.DataDir, "bare")).FullName;
        await GuestIdentity.Create().WriteInitrdAsync(template.InitrdPath, Path.Combine(work, "initrd"), "bare", key.PublicLine, 1400, CancellationToken.None);
        var ours = new Latencies();
        var bare = new Latencies();
        for (var i = -1; i < Rounds; i++)
        {
            var start = Stopwatch.GetTimestamp();
            await using (var sandbox = await server.Pandora.CreateAsync())
            {
                await sandbox.ExecAsync("true");
                if (i >= 0)
                {
                    ours.Add(Stopwatch.GetElapsedTime(start));
                }
            }

            var begin = TimeProvider.System.GetUtcNow();
            var end = await Command.RunAsync("bash", ["-c", Bare, "bare", work, template.Directory, Path.Combine(server.DataDir, "keys/pandora"), $"{HostTsc.KiloHertz}"]);
            if (i >= 0)
            {
                bare.Add(DateTimeOffset.UnixEpoch.AddTicks(long.Parse(end.Trim()) / 100) - begin);
            }
        }

        return new Result("cold boot to first exec / bare QEMU script", ours.Percentile(50) / bare.Percentile(50), "×", 1.15, $"{ours.Percentile(50) / 1000:0.00} s / {bare.Percentile(50) / 1000:0.00} s");
    }
}
