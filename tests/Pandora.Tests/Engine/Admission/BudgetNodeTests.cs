using Pandora.Engine;
using Pandora.Engine.Admission;
using Pandora.Engine.Projects;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;
using Pandora.Vmm;

namespace Pandora.Tests.Engine.Admission;

/// <summary>The host's budget on a whole node: a microVM of the fake's template counts as 512 MiB and one virtual CPU.</summary>
public sealed class BudgetNodeTests
{
    private static readonly SandboxRequest Usual = new();

    [Fact]
    public async Task The_pool_warms_no_more_than_the_host_has_room_for()
    {
        await using var node = NodeOf(room: 2, poolSize: 4);
        await FakeNode.UntilAsync(() => node.Pool is { WarmCount: 2, BootingCount: 0 });
        Assert.Equal(2, node.BootAttempts);
        var first = await node.Sandboxes.CreateAsync(Usual, default);
        await node.Sandboxes.CreateAsync(Usual, default);
        var refusal = await Assert.ThrowsAsync<PandoraException>(() => node.Sandboxes.CreateAsync(Usual, default));
        Assert.Equal(PandoraError.HostFull, refusal.Error);
        Assert.Equal(new((1024, 2048), (1024, 2), (1024, 2)), node.Engine.Status.Capacity);
        // What it gives back is warmed up again.
        await node.Sandboxes.DeleteAsync(first.Sandbox.Id, complete: true);
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 1);
        Assert.Equal(new((1024, 2048), (512, 1), (1024, 2)), node.Engine.Status.Capacity);
        await node.Sandboxes.CreateAsync(Usual, default);
    }

    [Fact]
    public async Task Warm_microVMs_give_way_to_a_claim_and_come_back()
    {
        await using var node = NodeOf(room: 4, poolSize: 4);
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 4);
        // 1280 + 256 MiB: three of the four give way.
        var large = await node.Sandboxes.CreateAsync(Usual with { Size = new WantedSize(MemoryMib: 1280) }, default);
        Assert.Equal((1280, 1), (large.Sandbox.MicroVm.Size!.MemoryMib, node.Pool.WarmCount));
        Assert.InRange(node.Engine.Status.Capacity.Held.MemoryMib, 1536, 2048);
        // The one that is left is handed out, and no other fits.
        Assert.True((await node.Sandboxes.CreateAsync(Usual, default)).IsWarm);
        await Assert.ThrowsAsync<PandoraException>(() => node.Sandboxes.CreateAsync(Usual, default));
        await node.Sandboxes.DeleteAsync(large.Sandbox.Id, complete: true);
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 3);
    }

    [Fact]
    public async Task A_claim_that_never_fits_says_so_and_one_that_does_not_fit_now_ends_nothing_warm()
    {
        await using var node = NodeOf(room: 4, poolSize: 2);
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 2);
        var never = await Assert.ThrowsAsync<PandoraException>(() => CreateAsync(node, 4096));
        Assert.Equal((PandoraError.AboveCeiling, "memory_mib"), (never.Error, never.Field));
        var first = CreateAsync(node, 1280);
        await first;
        await FakeNode.UntilAsync(() => node.Pool is { WarmCount: 1, BootingCount: 0 });
        // Its quota is checked when it has its microVM, so two at once wait here: one of them in vain.
        await node.Sandboxes.DeleteAsync((await first).Sandbox.Id, complete: true);
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 2);
        var both = new[] { CreateAsync(node, 1280), CreateAsync(node, 1279) };
        await Task.WhenAny(both);
        // Not in leaps: the refused one could run out of time before it is refused. Its start looks once a second whether it is still
        // waited for, and until then nothing is warmed up: so the clock runs to the end.
        await using var clock = node.RunClock();
        await FakeNode.UntilAsync(() => both.All(b => b.IsCompleted));
        var refused = (PandoraException)both.Single(b => b.IsFaulted).Exception!.InnerException!;
        Assert.Equal(PandoraError.HostFull, refused.Error);
        await FakeNode.UntilAsync(() => node.Pool is { WarmCount: 1, BootingCount: 0 });
    }

    [Fact]
    public async Task A_snapshot_is_made_on_a_host_that_is_full_of_warm_microVMs()
    {
        await using var node = NodeOf(room: 2, poolSize: 2, canSnapshot: true);
        await using var clock = node.RunClock();
        await FakeNode.UntilAsync(() => HasSnapshot(node) && node.Pool is { WarmCount: 2, BootingCount: 0 });
        Assert.Equal((1024, 2), node.Engine.Status.Capacity.Held);
    }

    [Fact]
    public async Task A_microVM_that_boots_after_a_failed_restore_holds_one_part()
    {
        await using var node = NodeOf(room: 2, poolSize: 1, canSnapshot: true, acquireTimeout: 90);
        node.Vmm.RestoreFailure = new VmmException("a test");
        await using var clock = node.RunClock();
        await FakeNode.UntilAsync(() => HasSnapshot(node));
        var claims = await Task.WhenAll(node.Sandboxes.CreateAsync(Usual, default), node.Sandboxes.CreateAsync(Usual, default));
        Assert.Equal((1024, 2), node.Engine.Status.Capacity.Held);
        Assert.Empty(node.Vmm.Restored);
        await Task.WhenAll(claims.Select(c => node.Sandboxes.DeleteAsync(c.Sandbox.Id, complete: true)));
        await FakeNode.UntilAsync(() => node.Pool is { WarmCount: 1, BootingCount: 0 });
        Assert.Equal((512, 1), node.Engine.Status.Capacity.Held);
    }

    [Fact]
    public async Task A_start_that_fails_gives_all_back()
    {
        await using var node = NodeOf(room: 4, poolSize: 0);
        node.BootFailure = new InvalidOperationException("no");
        var claim = node.Sandboxes.CreateAsync(Usual, default);
        await FakeNode.UntilAsync(() =>
        {
            node.Time.Advance(TimeSpan.FromSeconds(1));
            return claim.IsCompleted;
        });
        await Assert.ThrowsAsync<PandoraException>(() => claim);
        await FakeNode.UntilAsync(() => node.Engine.Status.Capacity.Held == (0, 0));
        Assert.Empty(node.Sandboxes.Uses);
    }

    [Fact]
    public async Task Ends_give_all_back()
    {
        await using var node = NodeOf(room: 4, poolSize: 0);
        var ids = new List<string>();
        for (var i = 0; i < 4; i++)
        {
            ids.Add((await node.Sandboxes.CreateAsync(Usual, default)).Sandbox.Id);
        }

        // One is deleted, one dies, one outlives a restart of the server.
        await node.Sandboxes.DeleteAsync(ids[0], complete: true);
        node.Vmm.MachineOf(ids[1]).Die("a test");
        await FakeNode.UntilAsync(() => node.Engine.Status.Capacity.Held == (1024, 2));
        await node.RestartAsync(isKilled: true);
        Assert.Equal(new((2048, 2048), (1024, 2), (1024, 2)), node.Engine.Status.Capacity);
        Assert.Equal(2, node.Sandboxes.UseOf(Project.DefaultName).Sandboxes);
        await node.Sandboxes.DeleteAsync(ids[2], complete: true);
        await node.Sandboxes.DeleteAsync(ids[3], complete: true);
        Assert.Equal(new((2048, 2048), (0, 0), (0, 0)), node.Engine.Status.Capacity);
        Assert.Empty(node.Sandboxes.Uses);
    }

    [Fact]
    public void A_host_that_holds_no_microVM_is_refused_with_what_to_do()
    {
        var refusal = Assert.Throws<StartupException>(() => new FakeNode(
            new EngineOptions { MemoryReserve = 1024 }, capacity: new HostCapacity(1200, 2)));
        Assert.Contains("lower PANDORA_MEMORY_RESERVE", refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_project_keeps_its_bounds_while_the_server_runs_and_after_a_restart()
    {
        var project = new Project("p") { MaxSandboxes = 2, MaxLifetime = 600 };
        await using var node = NodeOf(room: 8, poolSize: 2, name => name == "p" ? project : new Project(name));
        var request = Usual with { Project = "p" };
        var first = await node.Sandboxes.CreateAsync(request, default);
        await node.Sandboxes.CreateAsync(request, default);
        await node.RestartAsync(isKilled: true);
        var refusal = await Assert.ThrowsAsync<PandoraException>(() => node.Sandboxes.CreateAsync(request, default));
        Assert.Equal(PandoraError.QuotaExceeded, refusal.Error);
        await node.Sandboxes.CreateAsync(Usual, default);
        // A lowered lifetime ends what is too old already.
        node.Time.Advance(TimeSpan.FromSeconds(100));
        node.Sandboxes.Get(first.Sandbox.Id).KeepAlive();
        await node.Sandboxes.ReapAsync();
        Assert.NotNull(node.Sandboxes.Get(first.Sandbox.Id));
        project = project with { MaxLifetime = 90 };
        await node.Sandboxes.ReapAsync();
        Assert.Throws<PandoraException>(() => node.Sandboxes.Get(first.Sandbox.Id));
    }

    private static bool HasSnapshot(FakeNode node) =>
        Directory.Exists(node.Options.SnapshotDir)
            && Directory.GetFiles(node.Options.SnapshotDir, "snapshot.json", SearchOption.AllDirectories).Length > 0;

    private static Task<CreatedSandbox> CreateAsync(FakeNode node, int memory) =>
        node.Sandboxes.CreateAsync(Usual with { Size = new WantedSize(MemoryMib: memory) }, default);

    private static FakeNode NodeOf(int room, int poolSize, FindProject? projects = null, bool canSnapshot = false,
        int acquireTimeout = 5) => new(
        new EngineOptions
        {
            PoolSize = poolSize,
            MaxSandboxes = 64,
            MemoryReserve = 100,
            AcquireTimeout = acquireTimeout,
            BootParallelism = 8,
            CpuOvercommit = 2,
        },
        hasAgents: canSnapshot, canSnapshot: canSnapshot, projects: projects, capacity: new HostCapacity((room * 512) + 100, 1024));
}
