using Pandora.Vmm;
using Pandora.Vmm.Firecracker;

namespace Pandora.Tests.Vmm;

/// <summary>Snapshots of the driver, on strict doubles of Firecracker and its jailer.</summary>
public sealed class FirecrackerSnapshotTests : IDisposable
{
    private static readonly string Programs = Path.GetFullPath(
        Path.Combine(AppContext.BaseDirectory, "../../Pandora.FirecrackerDouble/release"));
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly FirecrackerVmm _vmm;

    public FirecrackerSnapshotTests() => _vmm = Create(new Version(1, 16, 1));

    private SnapshotFiles Files => new(Path.Combine(_directory, "snapshot", "state"), Path.Combine(_directory, "snapshot", "memory"));

    public void Dispose()
    {
        _vmm.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public async Task A_machine_is_paused_saved_and_restored_in_another_jail()
    {
        await SaveAsync();
        Assert.Equal(300L << 20, new FileInfo(Files.MemoryPath).Length);
        await using var restored = await _vmm.RestoreAsync(Spec("two"), Files, default);
        Assert.Equal(
            ["GET", "PUT /logger", "PUT /metrics", "PUT /snapshot/load"],
            Calls("two").Select(c => c.StartsWith("GET", StringComparison.Ordinal) ? "GET" : string.Join(' ', c.Split(' ')[..2])));
        Assert.Contains(
            """{"snapshot_path":"/state","mem_backend":{"backend_path":"/memory","backend_type":"File"},"resume_vm":true}""",
            Calls("two")[^1]);
        Assert.True(restored.IsRunning);
        Assert.Contains("PATCH /vm {\"state\":\"Paused\"}", Calls("one"));
        Assert.EndsWith("""{"snapshot_type":"Full","snapshot_path":"/state","mem_file_path":"/memory"}""", Calls("one")[^1]);
    }

    [Fact]
    public async Task A_connection_waits_for_the_agent_and_keeps_its_first_bytes()
    {
        await using var machine = await _vmm.StartAsync(Spec("one"), default);
        await using var stream = await machine.ConnectAgentAsync(default);
        await stream.WriteAsync("world"u8.ToArray());
        var words = new byte[10];
        await stream.ReadExactlyAsync(words);
        Assert.Equal("helloworld"u8.ToArray(), words);
    }

    [Fact]
    public async Task Waiting_for_an_agent_that_never_listens_can_be_cancelled()
    {
        await using var machine = await _vmm.StartAsync(Spec("one"), default);
        await _vmm.SnapshotAsync(machine, Begin(), default);
        using var limit = new CancellationTokenSource(TimeSpan.FromMilliseconds(200), TimeProvider.System);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => machine.ConnectAgentAsync(limit.Token));
    }

    [Theory]
    [InlineData("state", 10, "Failed to get snapshot state from file")]
    [InlineData("memory", 1024, "Error creating guest memory from file")]
    public async Task A_restore_from_a_truncated_snapshot_fails_and_leaves_nothing(string name, int length, string words)
    {
        await SaveAsync();
        await using (var file = File.OpenWrite(Path.Combine(_directory, "snapshot", name)))
        {
            file.SetLength(length);
        }

        await FailsAsync("two", "at 'snapshot/load'", words);
    }

    [Theory]
    [InlineData("die PUT /snapshot/load", "at 'snapshot/load'", "the double dies")]
    [InlineData("refuse PUT /snapshot/load", "at 'snapshot/load'", "refused because the test asks for it")]
    [InlineData("die PUT /logger", "at 'logger'", "the double dies")]
    public async Task A_restore_that_fails_says_where_and_why_and_leaves_nothing(string misbehaviour, string where, string why)
    {
        await SaveAsync();
        var root = Directory.CreateDirectory(Path.Combine(_directory, "jails/firecracker/two/root")).FullName;
        await File.WriteAllTextAsync(Path.Combine(root, "misbehave"), misbehaviour);
        await FailsAsync("two", where, why);
    }

    [Theory]
    [InlineData("refuse PATCH /vm")]
    [InlineData("refuse PUT /snapshot/create")]
    public async Task A_failed_snapshot_is_an_error_and_leaves_no_file(string misbehaviour)
    {
        var root = Directory.CreateDirectory(Path.Combine(_directory, "jails/firecracker/one/root")).FullName;
        await File.WriteAllTextAsync(Path.Combine(root, "misbehave"), misbehaviour);
        await using var machine = await _vmm.StartAsync(Spec("one"), default);
        Assert.Contains(
            "refused because the test asks for it",
            (await Assert.ThrowsAsync<FirecrackerApiException>(() => _vmm.SnapshotAsync(machine, Begin(), default))).Message);
        Assert.Empty(Directory.GetFiles(Path.Combine(_directory, "snapshot")));
    }

    [Fact]
    public async Task The_jail_of_a_dead_machine_is_removed_and_a_missing_jail_is_no_error()
    {
        var machine = await _vmm.StartAsync(Spec("one"), default);
        using (var process = Pandora.Linux.ProcessHandle.TryOpen(machine.Handle.Pid))
        {
            process!.Kill();
            await process.Exited;
        }

        Assert.True(Directory.Exists(Assert.Single(_vmm.DirectoriesOf("one"))));
        _vmm.RemoveDirectories("one");
        Assert.False(Directory.Exists(Assert.Single(_vmm.DirectoriesOf("one"))));
        _vmm.RemoveDirectories("one");
    }

    [Fact]
    public void A_version_whose_restored_guests_are_unreachable_makes_no_snapshot()
    {
        using var broken = Create(new Version(1, 16, 0));
        Assert.Null(broken.SnapshotCompatibility);
        Assert.Contains("Firecracker 1.16.1", _vmm.SnapshotCompatibility);
    }

    private async Task FailsAsync(string id, string where, string why)
    {
        var error = await Assert.ThrowsAsync<VmmException>(() => _vmm.RestoreAsync(Spec(id), Files, default));
        Assert.Contains(where, error.Message);
        Assert.Contains(why, error.Message);
        Assert.False(Directory.Exists(Path.Combine(_directory, "jails/firecracker", id)));
        var processes = Directory.GetDirectories("/proc").Where(d => int.TryParse(Path.GetFileName(d), out _));
        Assert.DoesNotContain(processes, d => IsOfThisTest(d, id));
    }

    private async Task SaveAsync()
    {
        await using var machine = await _vmm.StartAsync(Spec("one"), default);
        await _vmm.SnapshotAsync(machine, Begin(), default);
    }

    private SnapshotFiles Begin()
    {
        Directory.CreateDirectory(Path.Combine(_directory, "snapshot"));
        return Files;
    }

    // The calls to a VMM, in a file outside its jail. The rest of the jail is removed with the machine.
    private string[] Calls(string id) => File.ReadAllLines(Path.Combine(_directory, $"{id}.calls"));

    private FirecrackerVmm Create(Version version) =>
        new(
            new FirecrackerBinaries(Path.Combine(Programs, "firecracker"), Path.Combine(Programs, "jailer"), version),
            Path.Combine(_directory, "jails"),
            "a test says so",
            TimeProvider.System)
        {
            CallLimit = TimeSpan.FromMinutes(1),
            StartLimit = TimeSpan.FromMinutes(5),
        };

    private VirtualMachineSpec Spec(string id)
    {
        var directory = Directory.CreateDirectory(Path.Combine(_directory, id)).FullName;
        string File(string name)
        {
            var path = Path.Combine(directory, name);
            System.IO.File.WriteAllText(path, "");
            return path;
        }

        Directory.CreateDirectory(Path.Combine(_directory, "jails/firecracker", id, "root"));
        System.IO.File.CreateSymbolicLink(
            Path.Combine(_directory, "jails/firecracker", id, "root/calls"), Path.Combine(_directory, $"{id}.calls"));
        return new VirtualMachineSpec
        {
            Id = id,
            Directory = directory,
            KernelPath = File("vmlinux"),
            InitrdPath = File("initrd"),
            Drives = [new DriveSpec(File("root"), IsReadOnly: true), new DriveSpec(File("disk"), IsReadOnly: false)],
            // The jail runs as the user of the tests, so the tests need not be root.
            Network = new NetworkSpec("", "tap0", "02:fc:00:00:00:02"),
            MemoryMiB = 300,
            Uid = OwnUid,
            Channels = new GuestChannels(new AgentChannel("pandora.agent", 1000), new AgentChannel("pandora.streams", 1001)),
        };
    }

    private static int OwnUid =>
        int.Parse(File.ReadLines("/proc/self/status").First(l => l.StartsWith("Uid:", StringComparison.Ordinal)).Split('\t')[1]);

    private bool IsOfThisTest(string process, string id)
    {
        try
        {
            return File.ReadAllText($"{process}/environ")
                    .Contains($"PANDORA_DOUBLE_ROOT={_directory}/jails/firecracker/{id}/", StringComparison.Ordinal)
                && File.ReadAllText($"{process}/stat").Split(") ")[1][0] != 'Z';
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
