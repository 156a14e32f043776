using System.Runtime.InteropServices;
using Pandora.Vmm.Host;
using Pandora.Vmm;
using Pandora.Vmm.Qemu;

namespace Pandora.Tests.Vmm;

public sealed class QemuTests
{
    private static readonly VirtualMachineSpec Spec = new()
    {
        Id = "abc",
        Directory = "/run/pandora/x,y",
        KernelPath = "/t/vmlinux",
        InitrdPath = "/t/initrd",
        Uid = 70001,
        Drives = [new DriveSpec("/t/rootfs.ext4", true), new DriveSpec("/d/abc.ext4", false)],
        Network = new NetworkSpec("/run/netns/n", "tap0", "02:fc:00:00:00:02"),
        Channels = new GuestChannels(new AgentChannel("pandora.agent", 1000), new AgentChannel("pandora.streams", 1001)),
    };

    [Fact]
    public void The_x86_machine_is_microvm_with_a_bounded_cache_a_known_clock_and_few_rights()
    {
        var line = string.Join(' ', QemuCommandLine.Create(Spec, Architecture.X64, useKvm: false, 2596144, canRunWith: false));
        Assert.StartsWith("-M microvm -accel tcg,thread=single,tb-size=64 -cpu max,-erms -m 256 -smp 1", line);
        Assert.Contains("console=ttyS0", line);
        Assert.Contains("tsc_early_khz=2596144 tsc=reliable", line);
        Assert.Contains("-chardev ringbuf,", line);
        Assert.Contains("read-only=on,file=/t/rootfs.ext4", line);
        Assert.Contains("unix:/run/pandora/x,,y/qmp.sock", line);
        Assert.Contains("-runas 70001:70001 -sandbox on,obsolete=deny,spawn=deny,resourcecontrol=deny", line);
    }

    [Fact]
    public void A_machine_to_be_snapshotted_shares_its_memory_file_and_a_restored_one_copies_it()
    {
        var booted = string.Join(' ', QemuCommandLine.Create(Spec, Architecture.X64, useKvm: false, 2596144, canRunWith: false));
        Assert.DoesNotContain("memory-backend", booted);
        Assert.Contains(
            "-chardev socket,id=agent,path=/run/pandora/x,,y/agent.sock,server=on,wait=off -device "
                + "virtserialport,chardev=agent,name=pandora.agent",
            booted);
        var template = string.Join(
            ' ',
            QemuCommandLine.Create(
                Spec with
                {
                    SnapshotMemoryPath = "/s/memory",
                },
                Architecture.X64,
                useKvm: false,
                2596144,
                canRunWith: false));
        Assert.StartsWith("-M microvm,memory-backend=ram ", template);
        Assert.Contains("-kernel /t/vmlinux", template);
        Assert.Contains("-object memory-backend-file,id=ram,size=256M,mem-path=/s/memory,share=on", template);
        var restored = string.Join(
            ' ',
            QemuCommandLine.Create(
                Spec, Architecture.X64, useKvm: false, 2596144, canRunWith: false, new SnapshotFiles("/s/state", "/s/memory")));
        Assert.Contains("-incoming defer -object memory-backend-file,id=ram,size=256M,mem-path=/s/memory,share=off", restored);
        Assert.DoesNotContain("-kernel", restored);
    }

    [Fact]
    public void Newer_qemu_gets_the_newer_option() =>
        Assert.Contains(
            "-run-with user=70001:70001", string.Join(' ', QemuCommandLine.Create(Spec, Architecture.X64, false, 1, canRunWith: true)));

    [Fact]
    public void With_kvm_the_guest_has_the_hosts_cpu_and_the_clock_of_kvm()
    {
        var line = string.Join(' ', QemuCommandLine.Create(Spec, Architecture.X64, useKvm: true, 2596144, false));
        Assert.Contains("-accel kvm -cpu host", line);
        Assert.DoesNotContain("tsc_early_khz", line);
    }

    // Not tested on hardware: only the generated command line can be checked here.
    [Fact]
    public void The_arm_machine_is_virt_with_its_console_and_the_same_drive_names()
    {
        var arguments = QemuCommandLine.Create(Spec, Architecture.Arm64, useKvm: true, null, false).ToList();
        var line = string.Join(' ', arguments);
        Assert.StartsWith("-M virt -accel kvm -cpu host", line);
        Assert.Contains("console=ttyAMA0", line);
        Assert.DoesNotContain("reboot=t", line);
        Assert.True(arguments.IndexOf("virtio-blk-device,drive=drive1") < arguments.IndexOf("virtio-blk-device,drive=drive0"));
        Assert.Equal("qemu-system-aarch64", QemuCommandLine.BinaryFor(Architecture.Arm64));
    }

    [Theory]
    [InlineData("flags\t\t: fpu vme svm", true)]
    [InlineData("flags\t\t: fpu vmx", true)]
    [InlineData("flags\t\t: fpu hypervisor", false)]
    public void Kvm_is_usable_only_with_the_flags_of_the_cpu(string cpuInfo, bool isUsable)
    {
        var path = Path.GetTempFileName();
        try
        {
            File.WriteAllText(path, cpuInfo + "\n");
            var (usable, reason, canOpen) = KvmCheck.Run(path, "/dev/null");
            Assert.Equal((isUsable, true), (usable, canOpen));
            Assert.Contains("/dev/null can be written to", reason);
            Assert.Equal(!isUsable, reason.Contains($"{path} has neither vmx nor svm", StringComparison.Ordinal));
            Assert.False(KvmCheck.Run(path, "/dev/no-such-kvm").IsUsable);
        }
        finally
        {
            File.Delete(path);
        }
    }
}
