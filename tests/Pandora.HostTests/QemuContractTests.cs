using Pandora.Engine;
using Pandora.Engine.Templates;
using Pandora.Tests.Vmm;
using Pandora.Linux;
using Pandora.TestHost;
using Pandora.Vmm;
using Pandora.Vmm.Qemu;

namespace Pandora.HostTests;

/// <summary>The contract that the engine requires of each VMM, tested on QEMU.</summary>
public sealed class QemuContractTests : VmmContract, IAsyncLifetime
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-host-").FullName;
    private readonly string _namespace = $"pt-{Guid.NewGuid().ToString("N")[..8]}";
    private QemuVmm? _vmm;
    private int _number;

    protected override IVmm Vmm => _vmm!;

    public async ValueTask InitializeAsync()
    {
        await Command.RunAsync("ip", ["netns", "add", _namespace]);
        await Command.RunAsync("ip", ["-n", _namespace, "-batch", "-"], "tuntap add dev tap0 mode tap user 65534\nlink set tap0 up\n");
        File.SetUnixFileMode(_directory, (UnixFileMode)0b111_101_101);
        _vmm = await QemuVmm.CreateAsync(Accelerator.Auto, "the test chooses it", null, TimeProvider.System, default);
    }

    public async ValueTask DisposeAsync()
    {
        _vmm?.Dispose();
        await Command.RunAsync("ip", ["netns", "del", _namespace]);
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public async Task It_is_what_auto_chooses_without_KVM()
    {
        var choice = new VmmChoice(VmmKind.Auto, Accelerator.Tcg, null, null, UseJailer: false, _directory, _directory);
        var auto = await choice.MakeAsync(TimeProvider.System, TestContext.Current.CancellationToken);
        Assert.Equal(("QEMU", "TCG"), (auto.Capabilities.Name, auto.Capabilities.Accelerator));
        ((IDisposable)auto).Dispose();
    }

    // QEMU's control socket accepts one client at a time.
    protected override async Task DetachAsync(IVirtualMachine machine) => await ((QemuVirtualMachine)machine).DetachAsync();

    protected override VirtualMachineSpec NewSpec()
    {
        var template = new TemplateStore(Repository.Templates).Find(EngineOptions.DefaultTemplate)!;
        var id = $"contract{_number++}";
        var own = Directory.CreateDirectory(Path.Combine(_directory, id)).FullName;
        var disk = Path.Combine(own, "disk");
        SparseFile.Copy(template.DiskPath, disk);
        return new VirtualMachineSpec
        {
            Id = id,
            Directory = own,
            KernelPath = template.KernelPath,
            InitrdPath = template.InitrdPath,
            Uid = 65534,
            Drives = [new DriveSpec(template.RootPath, IsReadOnly: true), new DriveSpec(disk, IsReadOnly: false)],
            Network = new NetworkSpec($"/run/netns/{_namespace}", "tap0", "02:fc:00:00:00:02"),
            Channels = new GuestChannels(new AgentChannel("pandora.agent", 1000), new AgentChannel("pandora.streams", 1001)),
        };
    }
}
