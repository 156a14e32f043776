using System.Diagnostics;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests;

/// <summary>The life of a sandbox and of the microVM under it.</summary>
public sealed class LifeTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    // On a slow machine too, and long before the commands would end.
    private static readonly TimeSpan AtOnce = TimeSpan.FromSeconds(120);

    private static ExecOptions Long => new() { Timeout = TimeSpan.FromSeconds(300) };

    private ServerProcess Server => fixture.Server;

    [Fact]
    public async Task A_sandbox_works_from_create_to_delete_and_its_receipt_lists_nothing_that_remains()
    {
        await Server.WaitForWarmAsync(1);
        var sandbox = await Server.Pandora.CreateAsync(
            new CreateSandboxOptions { Metadata = new Dictionary<string, string> { ["test"] = "life" } });
        Assert.True(sandbox.IsWarm);
        Assert.Equal("hi\n", (await sandbox.ExecAsync("echo hi")).Stdout);
        var info = Assert.Single(await Server.Pandora.ListAsync(new Dictionary<string, string> { ["test"] = "life" }));
        Assert.Equal((sandbox.Id, 1), (info.Id, info.ExecCount));
        var receipt = await sandbox.EndAsync();
        Assert.Equal(0, receipt.Remaining);
        Assert.All(receipt.Resources, r => Assert.True(r.IsGone && r.Error is null, $"{r.Kind} {r.Name}: {r.Error}"));
        Assert.Superset(
            new HashSet<string> { "process", "namespace", "interface", "file", "directory", "connection" },
            receipt.Resources.Select(r => r.Kind).ToHashSet());
        Assert.False(Directory.Exists(Path.Combine(Server.RunDir, Server.Instance, sandbox.Id)));
        await Assert.ThrowsAsync<SandboxNotFoundException>(() => sandbox.ExecAsync("true"));
    }

    [Fact]
    public async Task The_vmm_has_a_user_of_its_own_no_capabilities_and_a_seccomp_filter()
    {
        await using var first = await Server.Pandora.CreateAsync();
        await using var second = await Server.Pandora.CreateAsync();
        var status = new[] { first, second }.Select(s => ReadStatus(PidOf(s))).ToArray();
        Assert.All(status, s =>
        {
            Assert.Equal("0000000000000000", s["CapEff"]);
            Assert.Equal("0000000000000000", s["CapPrm"]);
            Assert.Equal("1", s["NoNewPrivs"]);
            Assert.Equal("2", s["Seccomp"]);
            Assert.All(s["Uid"].Split('\t'), uid => Assert.True(int.Parse(uid) > 1_000_000));
        });
        Assert.NotEqual(status[0]["Uid"], status[1]["Uid"]);
        var pid = PidOf(first);
        Assert.Equal(pid, int.Parse(File.ReadAllText($"/proc/{pid}/stat").Split(") ")[1].Split(' ')[3])); // the VMM leads a session
        Assert.Contains($"pandora-{Server.Instance}/{first.Id}", File.ReadAllText($"/proc/{pid}/cgroup"));
        Assert.DoesNotContain("BEGIN", File.ReadAllText($"/proc/{pid}/environ") + File.ReadAllText($"/proc/{pid}/cmdline"));
    }

    [Fact]
    public async Task Sandboxes_share_nothing_that_a_guest_can_write()
    {
        await using var first = await Server.Pandora.CreateAsync();
        await using var second = await Server.Pandora.CreateAsync();
        await first.ExecAsync("echo mine > /root/file; rm /usr/bin/git; echo changed > /etc/motd");
        var seen = await second.ExecAsync("ls /root; test -x /usr/bin/git && echo git; cat /etc/motd | grep -c changed; hostname");
        Assert.StartsWith("git\n0\n", seen.Stdout);
        Assert.NotEqual(
            (await first.ExecAsync("cat /etc/pandora/host_key | sha256sum; hostname")).Stdout,
            (await second.ExecAsync("cat /etc/pandora/host_key | sha256sum; hostname")).Stdout);
    }

    [Fact]
    public async Task An_idle_sandbox_is_reaped_and_a_busy_one_is_not()
    {
        var idle = await Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(10) });
        await using var busy = await Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(10) });
        Assert.Equal("done\n", (await busy.ExecAsync("sleep 14; echo done")).Stdout);
        var ended = await Assert.ThrowsAsync<SandboxNotFoundException>(() => idle.ExecAsync("true"));
        Assert.Contains("nobody used it", ended.Message);
    }

    [Theory]
    [InlineData("/usr/lib/pandora/busybox poweroff -f; sleep 300", "powered itself off")]
    [InlineData("/usr/lib/pandora/busybox reboot -f; sleep 300", "rebooted itself")]
    [InlineData("echo c > /proc/sysrq-trigger; sleep 300", "panicked")]
    public async Task A_guest_that_ends_itself_is_gone_at_once_with_the_reason(string code, string reason)
    {
        Assert.SkipWhen(
            TestVmm.IsFirecracker && reason == "powered itself off",
            "Firecracker does not notice that a guest powers itself off: such a sandbox ends when it is idle");
        Assert.SkipWhen(TestVmm.NeedsOwnKernel && reason == "panicked", "the kernel that the tests build has no sysrq");
        await using var sandbox = await Server.Pandora.CreateAsync();
        var start = Stopwatch.GetTimestamp();
        var gone = await Assert.ThrowsAsync<SandboxGoneException>(() => sandbox.ExecAsync(code, Long));
        Assert.Contains(reason, gone.Message);
        Assert.True(Stopwatch.GetElapsedTime(start) < AtOnce, $"{Stopwatch.GetElapsedTime(start)}");
        Assert.Equal(ErrorCodes.SandboxGone.Code, (await Assert.ThrowsAsync<SandboxGoneException>(() => sandbox.ExecAsync("true"))).Code);
    }

    [Fact]
    public async Task A_vmm_killed_during_an_exec_ends_it_at_once_and_the_pool_continues()
    {
        var sandbox = await Server.Pandora.CreateAsync();
        var running = sandbox.ExecAsync("sleep 300", Long);
        await ProcessTests.UntilAsync(async () => (await sandbox.ExecAsync("pgrep -x sleep")).ExitCode == 0);
        var start = Stopwatch.GetTimestamp();
        Kill(PidOf(sandbox));
        await Assert.ThrowsAsync<SandboxGoneException>(() => running);
        Assert.True(Stopwatch.GetElapsedTime(start) < AtOnce, $"{Stopwatch.GetElapsedTime(start)}");
        await using var next = await Server.Pandora.CreateAsync();
        Assert.Equal(0, (await next.ExecAsync("true")).ExitCode);
    }

    [Fact]
    public async Task A_vmm_killed_while_warm_is_never_handed_out()
    {
        await Server.WaitForWarmAsync(2);
        var pids = Audit.Processes(Server).Select(int.Parse).ToList();
        foreach (var pid in pids)
        {
            using var process = ProcessHandle.TryOpen(pid);
            process!.Kill();
            await process.Exited;
        }

        for (var i = 0; i < 2; i++)
        {
            await using var sandbox = await Server.Pandora.CreateAsync();
            Assert.DoesNotContain(PidOf(sandbox), pids);
            Assert.Equal(0, (await sandbox.ExecAsync("true")).ExitCode);
        }
    }

    [Fact]
    public async Task A_console_flood_does_not_fill_the_disk()
    {
        await using var sandbox = await Server.Pandora.CreateAsync();
        var before = DirectorySize(Server.DataDir);
        await sandbox.ExecAsync("timeout 5 sh -c 'yes flood > /dev/ttyS0'; true");
        Assert.True(DirectorySize(Server.RunDir) < 8 * 1024 * 1024, $"{DirectorySize(Server.RunDir)} bytes");
        Assert.True(DirectorySize(Server.DataDir) - before < 64 * 1024 * 1024);
        Assert.Equal(0, (await sandbox.ExecAsync("true")).ExitCode);
    }

    [Fact]
    public async Task Space_that_a_guest_frees_is_freed_on_the_host()
    {
        Assert.SkipWhen(TestVmm.IsFirecracker, "Firecracker's block device has no discard");
        await using var sandbox = await Server.Pandora.CreateAsync();
        var disk = Path.Combine(Server.DataDir, "disks", $"{sandbox.Id}.ext4");
        await sandbox.ExecAsync("head -c 100000000 /dev/zero > /big; sync", new ExecOptions { Timeout = TimeSpan.FromSeconds(100) });
        var full = await BlocksAsync(disk);
        await sandbox.ExecAsync("rm /big; sync; sleep 2; sync", new ExecOptions { Timeout = TimeSpan.FromSeconds(100) });
        Assert.True(full > 90_000, $"{full} KiB");
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(2), TimeProvider.System);
        while (await BlocksAsync(disk) is var left && left >= 30_000)
        {
            Assert.False(limit.IsCancellationRequested, $"{left} KiB");
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
        }
    }

    private int PidOf(Sandbox sandbox) => int.Parse(File.ReadAllText(Path.Combine(Server.RunDir, Server.Instance, sandbox.Id, "vmm.pid")));

    private static void Kill(int pid)
    {
        using var process = ProcessHandle.TryOpen(pid);
        process?.Kill();
    }

    private static Dictionary<string, string> ReadStatus(int pid) =>
        File.ReadLines($"/proc/{pid}/status").Select(l => l.Split(":\t")).Where(p => p.Length == 2).ToDictionary(p => p[0], p => p[1]);

    // Files in a jail are hard links to files that are counted elsewhere. Disks come and go with the microVMs of the pool.
    private static long DirectorySize(string path)
    {
        var size = 0L;
        foreach (
            var file in Directory
                .GetFiles(path, "*", SearchOption.AllDirectories)
                .Where(f => !f.EndsWith(".ext4", StringComparison.Ordinal) && !f.Contains("/jail/", StringComparison.Ordinal)))
        {
            try
            {
                size += new FileInfo(file).Length;
            }
            catch (FileNotFoundException)
            {
                // The file was deleted meanwhile.
            }
        }

        return size;
    }

    private static async Task<long> BlocksAsync(string path) => long.Parse((await Command.RunAsync("du", ["-k", path])).Split('\t')[0]);
}
