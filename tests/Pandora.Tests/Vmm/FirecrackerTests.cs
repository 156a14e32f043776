using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using Pandora.Fakes;
using Pandora.Vmm;
using Pandora.Vmm.Firecracker;
using Pandora.Vmm.Qemu;

namespace Pandora.Tests.Vmm;

/// <summary>The driver on a strict double without a jail: the calls that it sends, and how it handles failures.</summary>
public sealed class FirecrackerTests : IDisposable
{
    private static readonly GuestChannels Channels = new(
        new AgentChannel("pandora.agent", 1000), new AgentChannel("pandora.streams", 1001));

    // Of the driver, between its attempts to reach Firecracker's socket.
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(1);
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly List<FirecrackerVmm> _vmms = [];

    private static string Double => Path.Combine(AppContext.BaseDirectory, "../../Pandora.FirecrackerDouble/release/firecracker");

    public void Dispose()
    {
        _vmms.ForEach(v => v.Dispose());
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public async Task A_machine_is_configured_in_order_started_and_killed()
    {
        await using var machine = await StartAsync(limits: new DeviceLimits(1024, 7, 2048));
        Assert.True(machine.IsRunning);
        string[] expected =
        [
            "GET /",
            "PUT /logger",
            "PUT /metrics",
            "PUT /machine-config",
            "PUT /boot-source",
            "PUT /drives/drive0",
            "PUT /drives/drive1",
            "PUT /network-interfaces/eth0",
            "PUT /vsock",
            "PUT /entropy",
            "PUT /actions",
        ];
        var calls = await File.ReadAllLinesAsync(Path.Combine(_directory, "calls"));
        Assert.Equal(expected, calls.Select(c => string.Join(' ', c.Split(' ')[..2])));
        Assert.Contains("\"vcpu_count\":2,\"mem_size_mib\":300", calls[3]);
        Assert.Contains("quiet panic=-1 cryptomgr.notests mitigations=off pandora.vsock reboot=k", calls[4]);
        Assert.EndsWith("extra=1\"}", calls[4]);
        Assert.Contains("\"is_read_only\":true", calls[5]);
        Assert.Contains(
            "\"rate_limiter\":{\"bandwidth\":{\"size\":1024,\"refill_time\":1000},\"ops\":{\"size\":7,\"refill_time\":1000}}", calls[6]);
        Assert.Contains("\"rx_rate_limiter\":{\"bandwidth\":{\"size\":2048,\"refill_time\":1000}}", calls[7]);
        await UntilAsync(async () =>
            (await machine.ReadConsoleAsync(default)).Contains("a line of the guest's console", StringComparison.Ordinal));
        await machine.KillAsync();
        Assert.Equal("the VMM was killed by Pandora", await machine.Exited);
        Assert.False(machine.IsRunning);
    }

    [Fact]
    public async Task Another_server_finds_a_machine_again_and_not_one_with_another_start_time()
    {
        using var vmm = Create();
        await using var machine = await StartAsync(vmm: vmm);
        await using (var again = await vmm.AttachAsync(machine.Handle, Channels, default))
        {
            Assert.NotNull(again);
            Assert.True(again.IsRunning);
            Assert.Null(await vmm.AttachAsync(machine.Handle with { StartTime = machine.Handle.StartTime + 1 }, Channels, default));
        }

        await machine.Exited;
        Assert.Null(await vmm.AttachAsync(machine.Handle, Channels, default));
    }

    [Fact]
    public async Task A_guest_that_stops_is_distinguished_from_a_VMM_that_dies()
    {
        await using var machine = await StartAsync(misbehaviour: "exit");
        Assert.Equal(
            "the guest stopped or rebooted itself, or its kernel panicked", await machine.Exited.WaitAsync(TimeSpan.FromMinutes(1)));
        Assert.Contains("a line of the guest's console", await machine.ReadConsoleAsync(default));
    }

    [Theory]
    [InlineData("die GET /", "at 'socket'", "the double dies")]
    [InlineData("garble GET /", "at 'socket'", "unexpected JSON")]
    [InlineData("die PUT /logger", "at 'logger'", "the double dies")]
    [InlineData("die PUT /machine-config", "at 'machine-config'", "the double dies")]
    [InlineData("die PUT /boot-source", "at 'boot-source'", "the double dies")]
    [InlineData("die PUT /drives/drive0", "at 'drives/drive0'", "the double dies")]
    [InlineData("die PUT /network-interfaces/eth0", "at 'network-interfaces/eth0'", "the double dies")]
    [InlineData("die PUT /vsock", "at 'vsock'", "the double dies")]
    [InlineData("die PUT /entropy", "at 'entropy'", "the double dies")]
    [InlineData("die PUT /actions", "at 'actions'", "the double dies")]
    [InlineData(
        "refuse PUT /network-interfaces/eth0",
        "at 'network-interfaces/eth0'",
        "Firecracker refused PUT /network-interfaces/eth0 (400): refused because the test asks for it")]
    [InlineData("busy-kvm", "at 'actions'", "Error creating KVM object: Device or resource busy")]
    public Task A_start_that_fails_says_where_and_why_and_leaves_no_process(string misbehaviour, string where, string why) =>
        FailsAsync(StartAsync(misbehaviour: misbehaviour), where, why);

    [Fact]
    public async Task A_call_that_is_not_answered_ends_the_start_in_time()
    {
        var time = new CountingTime();
        using var vmm = Create(time);
        var starting = StartAsync("hang PUT /actions", vmm);
        var calls = Path.Combine(_directory, "calls");
        var pauses = 0;
        await FakeNode.UntilAsync(() =>
        {
            for (; pauses < time.TimersOf(Pause); pauses++)
            {
                time.Advance(Pause);
            }

            return File.Exists(calls) && File.ReadAllText(calls).Contains("PUT /actions", StringComparison.Ordinal);
        });
        time.Advance(vmm.CallLimit);
        await FailsAsync(starting, "at 'actions'", "did not answer PUT /actions within 60 s");
    }

    [Fact]
    public async Task A_process_without_its_socket_ends_the_start_in_time()
    {
        var time = new CountingTime();
        using var vmm = Create(time);
        var starting = StartAsync("no-socket", vmm);
        await FakeNode.UntilAsync(() => time.TimersOf(Pause) > 0);
        time.Advance(vmm.StartLimit);
        await FailsAsync(starting, "at 'socket'", "not done within 300 s");
    }

    [Fact]
    public async Task The_double_refuses_the_calls_that_Firecracker_refuses()
    {
        var error = await Assert.ThrowsAsync<VmmException>(() => StartAsync(spec: s => s with { MemoryMiB = 0 }));
        Assert.Contains("Firecracker refused PUT /machine-config (400): The memory size", error.Message);
        Assert.IsType<FirecrackerApiException>(error.InnerException);
        Directory.Delete(_directory, recursive: true);
        Directory.CreateDirectory(_directory);
        Assert.Contains(
            "backing file",
            (
                await Assert.ThrowsAsync<VmmException>(() =>
                    StartAsync(spec: s => s with { Drives = [new DriveSpec("/no/such/disk", false), s.Drives[1]] })
                )).Message);
        Assert.Contains(
            "MAC address",
            (
                await Assert.ThrowsAsync<VmmException>(() =>
                    StartAsync(spec: s => s with { Network = s.Network with { MacAddress = "02:fc" } })
                )).Message);
    }

    [Fact]
    public async Task Each_program_that_cannot_be_used_is_refused_with_its_reason()
    {
        async Task<string> RefusalAsync(string program, string? jailer = null) =>
            (await Assert.ThrowsAsync<VmmException>(() => FirecrackerBinaries.FindAsync(program, jailer, default))).Message;
        Assert.Contains("there is no '/no/such/firecracker': './pandora firecracker install'", await RefusalAsync("/no/such/firecracker"));
        Assert.Contains("1.12.0 or later is needed", await RefusalAsync(Script("old", "Firecracker v1.11.9")));
        Assert.Contains("cannot be run", await RefusalAsync(Script("broken", "Firecracker v1.16.1", isExecutable: false)));
        Assert.Contains("does not say that it is Firecracker", await RefusalAsync(Script("other", "QEMU 7.2")));
        Assert.Contains(
            "has version 1.16.1, but", await RefusalAsync(Script("new", "Firecracker v1.17.0"), Script("jailer", "Jailer v1.16.1")));
        Assert.Contains("there is no '/no/such/jailer'", await RefusalAsync(Script("new", "Firecracker v1.17.0"), "/no/such/jailer"));
        Assert.Null((await FirecrackerBinaries.FindAsync(Script("good", "Firecracker v1.16.1-dev"), null, default)).Warning);
        Assert.Contains(
            "1.16.1 or later", (await FirecrackerBinaries.FindAsync(Script("bad", "Firecracker v1.16.0"), null, default)).Warning);
    }

    [Fact]
    public async Task Contradictory_settings_are_refused()
    {
        var choice = new VmmChoice(VmmKind.Firecracker, Accelerator.Tcg, Double, null, UseJailer: false, _directory, _directory);
        Assert.Contains(
            "contradict each other",
            (await Assert.ThrowsAsync<VmmException>(() => choice.MakeAsync(TimeProvider.System, default))).Message);
    }

    [Theory]
    [InlineData(
        Architecture.X64,
        "console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off pandora.vsock reboot=k 8250.nr_uarts=1 i8042.noaux "
            + "i8042.nomux i8042.dumbkbd extra=1")]
    [InlineData(Architecture.Arm64, "console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off pandora.vsock extra=1")]
    public void Kernel_arguments_depend_on_the_architecture(Architecture architecture, string expected) =>
        Assert.Equal(expected, FirecrackerBoot.KernelArguments(Spec(), architecture));

    /// <summary>Compares the calls as text, because the tests have no aarch64 host.</summary>
    [Fact]
    public void On_aarch64_the_calls_are_the_same_except_the_kernel_arguments()
    {
        var paths = new FirecrackerPaths("/kernel", "/initrd", ["/drive0", "/drive1"], "/log", "/metrics", "/run/agent.sock");
        string[] expected =
        [
            "/logger {\"log_path\":\"/log\",\"level\":\"Info\"}",
            "/metrics {\"metrics_path\":\"/metrics\"}",
            "/machine-config {\"vcpu_count\":2,\"mem_size_mib\":300,\"smt\":false,\"track_dirty_pages\":false}",
            "/boot-source {\"kernel_image_path\":\"/kernel\",\"initrd_path\":\"/initrd\","
                + "\"boot_args\":\"console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off pandora.vsock extra=1\"}",
            "/drives/drive0 {\"drive_id\":\"drive0\",\"path_on_host\":\"/drive0\",\"is_root_device\":false,\"is_read_only\":true,"
                + "\"cache_type\":\"Unsafe\",\"io_engine\":\"Sync\"}",
            "/drives/drive1 {\"drive_id\":\"drive1\",\"path_on_host\":\"/drive1\",\"is_root_device\":false,\"is_read_only\":false,"
                + "\"cache_type\":\"Unsafe\",\"io_engine\":\"Sync\"}",
            "/network-interfaces/eth0 {\"iface_id\":\"eth0\",\"guest_mac\":\"02:fc:00:00:00:02\",\"host_dev_name\":\"tap0\"}",
            "/vsock {\"guest_cid\":3,\"uds_path\":\"/run/agent.sock\"}",
            "/entropy {}",
            "/actions {\"action_type\":\"InstanceStart\"}",
        ];
        Assert.Equal(
            expected, FirecrackerBoot.Calls(Spec(), paths, Architecture.Arm64).Select(c => $"{c.Path} {Encoding.UTF8.GetString(c.Body)}"));
    }

    [Theory]
    [InlineData("Seccomp:\t2", true)]
    [InlineData("Seccomp:\t0", false)]
    [InlineData("Seccomp_filters:\t2", false)]
    public void A_process_with_filters_is_distinguished_from_one_without(string status, bool isFiltered) =>
        Assert.Equal(isFiltered, FirecrackerVmm.IsFiltered(["Name:\tfirecracker", status]));

    [Fact]
    public async Task A_jail_that_cannot_be_made_fails_the_start_and_says_where()
    {
        // No user, not even root, can make a directory beneath a file.
        var file = Path.Combine(_directory, "not-a-directory");
        await File.WriteAllTextAsync(file, "");
        using var vmm = new FirecrackerVmm(
            new FirecrackerBinaries(Path.GetFullPath(Double), "/no/such/jailer", new Version(1, 16, 1)),
            file,
            "a test says so",
            TimeProvider.System);
        var error = await Assert.ThrowsAsync<VmmException>(() => vmm.StartAsync(Spec(), default));
        Assert.Contains("at 'jail'", error.Message);
        Assert.Contains(file, error.Message);
    }

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(1), TimeProvider.System);
        while (!await condition())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, limit.Token);
        }
    }

    // The limits allow for a busy machine, which needs a while to start the double.
    private static FirecrackerVmm Create(TimeProvider? time = null) => new(
        new FirecrackerBinaries(Path.GetFullPath(Double), null, new Version(1, 16, 1)), "", "a test says so", time ?? TimeProvider.System)
    {
        CallLimit = TimeSpan.FromMinutes(1),
        StartLimit = TimeSpan.FromMinutes(5),
    };

    private async Task FailsAsync(Task<IVirtualMachine> starting, string where, string why)
    {
        var error = await Assert.ThrowsAsync<VmmException>(() => starting);
        Assert.Contains(where, error.Message);
        Assert.Contains(why, error.Message);
        Assert.DoesNotContain(Directory.GetDirectories("/proc").Where(d => int.TryParse(Path.GetFileName(d), out _)), IsOfThisTest);
    }

    private async Task<IVirtualMachine> StartAsync(
        string misbehaviour = "",
        FirecrackerVmm? vmm = null,
        DeviceLimits? limits = null,
        Func<VirtualMachineSpec, VirtualMachineSpec>? spec = null)
    {
        // Removes the socket of the previous machine. Outside of tests each machine has its own directory.
        File.Delete(Path.Combine(_directory, "api.sock"));
        await File.WriteAllTextAsync(Path.Combine(_directory, "misbehave"), misbehaviour);
        var wanted = Spec() with { Limits = limits ?? new DeviceLimits() };
        if (vmm is null)
        {
            vmm = Create();
            _vmms.Add(vmm);
        }

        return await vmm.StartAsync(spec?.Invoke(wanted) ?? wanted, default);
    }

    private VirtualMachineSpec Spec()
    {
        string File(string name)
        {
            var path = Path.Combine(_directory, name);
            System.IO.File.WriteAllText(path, "");
            return path;
        }

        return new VirtualMachineSpec
        {
            Id = Path.GetFileName(_directory).ToLowerInvariant(),
            Directory = _directory,
            KernelPath = File("vmlinux"),
            InitrdPath = File("initrd"),
            Drives = [new DriveSpec(File("root"), IsReadOnly: true), new DriveSpec(File("disk"), IsReadOnly: false)],
            Network = new NetworkSpec("", "tap0", "02:fc:00:00:00:02"),
            VcpuCount = 2,
            MemoryMiB = 300,
            Uid = 0,
            Channels = Channels,
            KernelArguments = "extra=1",
        };
    }

    private bool IsOfThisTest(string process)
    {
        try
        {
            return File.ReadAllText($"{process}/cmdline").Contains(_directory, StringComparison.Ordinal)
                && File.ReadAllText($"{process}/stat").Split(") ")[1][0] != 'Z';
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    private string Script(string name, string output, bool isExecutable = true)
    {
        var path = Path.Combine(_directory, name);
        // Another process writes it: one that a test beside this one starts would have the file open, which is then no program.
        using var writer = Process.Start("sh", ["-c", "printf '#!/bin/sh\\necho \"%s\"\\n' \"$2\" > \"$1\"", "sh", path, output]);
        writer.WaitForExit();
        File.SetUnixFileMode(path, isExecutable ? (UnixFileMode)0b111_101_101 : (UnixFileMode)0b110_100_100);
        return path;
    }
}
