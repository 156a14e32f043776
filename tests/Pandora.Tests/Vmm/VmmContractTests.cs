using Pandora.Fakes;
using Pandora.Vmm;
using Pandora.Vmm.Firecracker;

namespace Pandora.Tests.Vmm;

/// <summary>Runs the contract on the fake VMM.</summary>
public sealed class FakeVmmTests : VmmContract, IDisposable
{
    private readonly FakeVmm _vmm = new();
    private int _number;

    protected override IVmm Vmm => _vmm;

    public void Dispose() => _vmm.Dispose();

    protected override VirtualMachineSpec NewSpec() => new()
    {
        Id = $"machine{_number++}",
        Directory = "",
        KernelPath = "",
        InitrdPath = "",
        Drives = [],
        Uid = 0,
        Channels = new GuestChannels(new AgentChannel("", 0), Streams: null),
        Network = new NetworkSpec("", "", ""),
    };
}

/// <summary>Runs the contract on the driver of Firecracker with the double in a jail.</summary>
public sealed class FirecrackerContractTests : VmmContract, IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly FirecrackerVmm _vmm;
    private int _number;

    public FirecrackerContractTests()
    {
        var programs = Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "../../Pandora.FirecrackerDouble/release"));
        var binaries = new FirecrackerBinaries(
            Path.Combine(programs, "firecracker"), Path.Combine(programs, "jailer"), new Version(1, 16, 1));
        _vmm = new FirecrackerVmm(binaries, Path.Combine(_directory, "jails"), "a test says so", TimeProvider.System)
        {
            CallLimit = TimeSpan.FromMinutes(1),
            StartLimit = TimeSpan.FromMinutes(5),
        };
    }

    protected override IVmm Vmm => _vmm;

    public void Dispose()
    {
        _vmm.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    protected override VirtualMachineSpec NewSpec()
    {
        var id = $"{Path.GetFileName(_directory).ToLowerInvariant()}{_number++}";
        var own = Directory.CreateDirectory(Path.Combine(_directory, id)).FullName;
        string Made(string name)
        {
            var path = Path.Combine(own, name);
            File.WriteAllText(path, "");
            return path;
        }

        Directory.CreateDirectory(Path.Combine(_directory, "jails/firecracker", id, "root"));
        File.CreateSymbolicLink(Path.Combine(_directory, "jails/firecracker", id, "root/calls"), Path.Combine(_directory, $"{id}.calls"));
        return new VirtualMachineSpec
        {
            Id = id,
            Directory = own,
            KernelPath = Made("vmlinux"),
            InitrdPath = Made("initrd"),
            MemoryMiB = 300,
            Uid = OwnUid,
            Drives = [new DriveSpec(Made("root"), IsReadOnly: true), new DriveSpec(Made("disk"), IsReadOnly: false)],
            Network = new NetworkSpec("", "tap0", "02:fc:00:00:00:02"),
            Channels = new GuestChannels(new AgentChannel("pandora.agent", 1000), new AgentChannel("pandora.streams", 1001)),
        };
    }

    // The user of the tests, which need not be root.
    private static int OwnUid =>
        int.Parse(File.ReadLines("/proc/self/status").First(l => l.StartsWith("Uid:", StringComparison.Ordinal)).Split('\t')[1]);
}
