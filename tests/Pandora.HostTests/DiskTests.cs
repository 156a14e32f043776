using System.Net;
using Pandora.Client;
using Pandora.HostTests.World;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>Sandboxes that share a small file system, when the file system is full.</summary>
public sealed class DiskTests : IAsyncLifetime
{
    private TestWorld _world = null!;
    private SmallDisk? _disk;

    public async ValueTask InitializeAsync()
    {
        _world = await TestWorld.CreateAsync();
        try
        {
            _disk = await SmallDisk.CreateAsync("360M");
        }
        catch
        {
            // The runner does not dispose a test whose set-up failed.
            await DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        try
        {
            if (_disk is not null)
            {
                await _disk.DisposeAsync();
            }
        }
        finally
        {
            await _world.DisposeAsync();
        }
    }

    [Fact]
    public async Task A_guest_that_fills_the_disk_damages_no_other_guests_file_and_resumes_when_there_is_room()
    {
        Assert.SkipWhen(TestVmm.IsFirecracker, "Firecracker reports an I/O error to the guest instead of letting the guest wait");
        await using var server = await StartAsync(reserve: 16, wait: 300);
        var (greedy, honest) = (
            await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) }),
            await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) }));
        // One file is written before the disk is full, the other while it is.
        await honest.ExecAsync(
            "head -c 8000000 /dev/urandom > /root/file && sha256sum /root/file > /root/sum && sync",
            new ExecOptions { Timeout = TimeSpan.FromSeconds(120) });
        await greedy.ExecAsync("head -c 1800000000 /dev/zero > /root/big 2> /dev/null &");
        await UntilAsync(async () => (await server.Pandora.GetAsync(greedy.Id)).State == "degraded", 120);
        Assert.Contains("waits for room", (await server.Pandora.GetAsync(greedy.Id)).StateReason);
        await honest.ExecAsync(
            "(for i in 1 2 3 4 5 6; do cat /root/file; done > /root/file2; sha256sum /root/file2 > /root/sum2; sync; touch "
                + "/root/done) > /dev/null 2>&1 &");
        await UntilAsync(async () => (await server.Pandora.GetAsync(honest.Id)).State == "degraded", 120);
        var refused = await Assert.ThrowsAnyAsync<PandoraApiException>(() => server.Pandora.CreateAsync());
        Assert.Equal("host_full", refused.Code);
        Assert.Contains("MiB free", refused.Message);
        Assert.Equal("host_full", (await Assert.ThrowsAnyAsync<PandoraApiException>(() => honest.ExecAsync("true"))).Code);
        Assert.Contains(
            (await server.Pandora.GetHealthAsync()).Notes, n => n.Contains("no microVM is handed out", StringComparison.Ordinal));

        await greedy.EndAsync();
        await UntilAsync(async () => (await server.Pandora.GetAsync(honest.Id)).State == "running", 120);
        await UntilAsync(async () => (await honest.ExecAsync("test -e /root/done")).ExitCode == 0, 120);
        var sums = await honest.ExecAsync(
            "echo 3 > /proc/sys/vm/drop_caches; sha256sum -c /root/sum /root/sum2",
            new ExecOptions { Timeout = TimeSpan.FromSeconds(120) });
        Assert.Equal(0, sums.ExitCode);
        await (await server.Pandora.CreateAsync()).EndAsync();
        await honest.EndAsync();
    }

    [Fact]
    public async Task A_sandbox_that_waits_too_long_for_room_ends_with_the_reason()
    {
        Assert.SkipWhen(TestVmm.IsFirecracker, "Firecracker reports an I/O error to the guest instead of letting the guest wait");
        await using var server = await StartAsync(reserve: 16, wait: 5);
        var sandbox = await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        await sandbox.ExecAsync("head -c 1800000000 /dev/zero > /root/big 2> /dev/null &");
        SandboxGoneException? gone = null;
        await UntilAsync(async () =>
        {
            try
            {
                await server.Pandora.GetAsync(sandbox.Id);
                return false;
            }
            catch (SandboxGoneException e)
            {
                gone = e;
                return true;
            }
        }, 180);
        Assert.Contains("no room for its data for 5 s", gone!.Message);
    }

    [Fact]
    public async Task A_claim_needs_the_reserve_and_a_share_of_what_running_disks_may_grow_by()
    {
        await using var server = await StartAsync(reserve: 16, wait: 300, share: 10);
        await using var first = await server.Pandora.CreateAsync();
        // With a share of 10 %, a disk of 2 GiB needs 205 MiB: 360 MiB are enough for one disk, not for ten.
        var sandboxes = new List<Sandbox>();
        var refused = await Assert.ThrowsAnyAsync<PandoraApiException>(async () =>
        {
            while (sandboxes.Count < 10)
            {
                sandboxes.Add(await server.Pandora.CreateAsync());
            }
        });
        Assert.Equal((HttpStatusCode.ServiceUnavailable, "host_full"), ((HttpStatusCode)refused.Status!, refused.Code));
        Assert.Contains("fewer MiB free than another sandbox needs", refused.Message);
        Assert.Contains("PANDORA_DISK_SHARE", refused.Hint);
        await UntilAsync(async () => (await server.Pandora.GetHealthAsync()).Notes
            .Any(n => n.Contains("are needed: no microVM is handed out", StringComparison.Ordinal)), 60);
        foreach (var sandbox in sandboxes)
        {
            await sandbox.DisposeAsync();
        }
    }

    private Task<ServerProcess> StartAsync(int reserve, int wait, int share = 0) => ServerProcess.StartAsync(
        _world,
        new()
        {
            ["PANDORA_POOL_SIZE"] = "1",
            ["PANDORA_POOL_START"] = "boot",
            ["PANDORA_DISK_RESERVE"] = $"{reserve}",
            ["PANDORA_DISK_SHARE"] = $"{share}",
            ["PANDORA_DISK_WAIT"] = $"{wait}",
        },
        _disk!.Directory);

    private static async Task UntilAsync(Func<Task<bool>> condition, int seconds)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(seconds), TimeProvider.System);
        while (!await condition())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System, limit.Token);
        }
    }
}
