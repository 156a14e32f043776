using Pandora.Engine;
using Pandora.Engine.Admission;
using Pandora.Engine.Pools;
using Pandora.Fakes;

namespace Pandora.Tests.Pools;

/// <summary>The pools of sizes that clients choose: how many there are, and when they end.</summary>
public sealed class VariantPoolsTests
{
    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(90);

    [Fact]
    public async Task A_size_has_a_pool_that_keeps_nothing_warm_and_the_templates_own_size_has_the_templates_pool()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 });
        using var own = node.Engine.Pools.Find("default", new WantedSize(256, 1, 2048), "default")!;
        Assert.Same(node.Pool, own.Pool);
        Assert.Equal((new MicroVmSize(256, 1, 2048), false), (own.Size, own.IsVariant));
        using (var plain = node.Engine.Pools.Find("default", null, "default")!)
        {
            Assert.Equal((node.Pool, own.Size), (plain.Pool, plain.Size));
        }

        using var lease = node.Engine.Pools.Find("default", new WantedSize(MemoryMib: 512), "default")!;
        Assert.Equal(new MicroVmSize(512, 1, 2048), lease.Size);
        var claimed = await lease.ClaimAsync("default", Longest, default);
        Assert.Equal((false, lease.Size), (claimed.IsWarm, claimed.MicroVm.Size));
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 1);
        Assert.Equal((0, 0, "default"), (lease.Pool.WarmCount, lease.Pool.Size, lease.Pool.Template));
        Assert.Null(node.Engine.Pools.Find("none", new WantedSize(MemoryMib: 512), "default"));
        await claimed.MicroVm.Teardown.CompleteAsync();
    }

    [Fact]
    public async Task The_least_recently_used_pool_ends_for_another_one()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0 });
        var first = PoolOf(node, 128);
        for (var i = 1; i < VariantPools.Most; i++)
        {
            node.Time.Advance(TimeSpan.FromMilliseconds(1));
            PoolOf(node, 128 + i);
        }

        var second = PoolOf(node, 129);
        node.Time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Same(first, PoolOf(node, 128));
        node.Time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Same(second, PoolOf(node, 129));
        PoolOf(node, 1000);
        Assert.Equal(VariantPools.Most, node.Engine.Pools.All.Count(p => p != node.Pool));
        Assert.Same(first, PoolOf(node, 128));
        // The third was not used since.
        Assert.DoesNotContain(node.Engine.Pools.All, p => p.MicroVmSize?.MemoryMib == 130);
        Assert.Equal(["default"], node.Engine.Pools.Templates);
    }

    [Fact]
    public async Task One_project_cannot_use_all_pools()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0 });
        var leases = Enumerable.Range(0, VariantPools.MostOfProject).Select(i => Find(node, 128 + i, "a")).ToList();
        var refused = Assert.Throws<PandoraException>(() => Find(node, 1000, "a"));
        Assert.Equal(PandoraError.Overloaded, refused.Error);
        Assert.Contains("project 'a' starts microVMs of 8 sizes", refused.Message, StringComparison.Ordinal);
        // A size that it uses already is no other one, and another project has its own bound.
        Find(node, 128, "a").Dispose();
        Find(node, 1000, "b").Dispose();
        leases[3].Dispose();
        Find(node, 1000, "a").Dispose();
        leases.ForEach(l => l.Dispose());
    }

    [Fact]
    public async Task When_all_pools_are_in_use_another_size_is_refused()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0 });
        var leases = Enumerable.Range(0, VariantPools.Most).Select(i => Find(node, 128 + i, $"p{i / 8}")).ToList();
        var refused = Assert.Throws<PandoraException>(() => Find(node, 1000));
        Assert.Equal(PandoraError.Overloaded, refused.Error);
        Assert.Contains($"microVMs of {VariantPools.Most} sizes", refused.Message);
        // A size that is in use already, and the template's own, are not refused.
        Find(node, 128).Dispose();
        Assert.NotNull(node.Engine.Pools.Find("default", null, "default"));
        leases[7].Dispose();
        leases[7].Dispose();
        using (Find(node, 1000))
        {
            Assert.Throws<PandoraException>(() => Find(node, 1001));
        }

        leases.ForEach(l => l.Dispose());
    }

    [Fact]
    public async Task A_pool_that_boots_for_a_client_that_went_away_does_not_end_before_the_boot()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0, BootTimeout = 600 }, bootsAreFree: false);
        using var gone = new CancellationTokenSource();
        var lease = Find(node, 512);
        var claim = lease.ClaimAsync("default", Longest, gone.Token).AsTask();
        await FakeNode.UntilAsync(() => node.BootAttempts == 1);
        await gone.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => claim);
        lease.Dispose();
        node.Time.Advance(VariantPools.LongestUnused + VariantPools.Interval);
        await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, TestContext.Current.CancellationToken);
        Assert.Contains(lease.Pool, node.Engine.Pools.All);
        node.AllowBoots(1);
        await FakeNode.UntilAsync(() => lease.Pool.BootingCount == 0 && node.Booted.Count == 1 && node.Booted[0].Machine.IsDisposed);
        await FakeNode.UntilAsync(() =>
        {
            node.Time.Advance(VariantPools.Interval);
            return !node.Engine.Pools.All.Contains(lease.Pool);
        });
    }

    [Fact]
    public async Task A_pool_that_is_not_used_for_some_minutes_ends_and_a_leased_one_does_not()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0 });
        using var kept = Find(node, 300);
        var unused = PoolOf(node, 301);
        node.Time.Advance(VariantPools.LongestUnused - TimeSpan.FromSeconds(1));
        Assert.Contains(unused, node.Engine.Pools.All);
        await FakeNode.UntilAsync(() =>
        {
            node.Time.Advance(VariantPools.Interval);
            return !node.Engine.Pools.All.Contains(unused);
        });
        Assert.Contains(kept.Pool, node.Engine.Pools.All);
        var claimed = await kept.ClaimAsync("default", Longest, default);
        await claimed.MicroVm.Teardown.CompleteAsync();
        Assert.NotSame(unused, PoolOf(node, 301));
    }

    [Fact]
    public async Task No_claim_is_lost_while_pools_end_for_others()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0, MaxSandboxes = 500 });
        var (served, refused) = (0, 0);
        await Task.WhenAll(Enumerable.Range(0, 16).Select(client => Task.Run(async () =>
        {
            var random = new Random(client);
            for (var i = 0; i < 60; i++)
            {
                try
                {
                    using var lease = Find(node, 128 + random.Next(100), $"p{client}");
                    node.Time.Advance(TimeSpan.FromTicks(1));
                    var claimed = await lease.ClaimAsync("default", Longest, default);
                    Assert.Equal(lease.Size, claimed.MicroVm.Size);
                    await claimed.MicroVm.Teardown.CompleteAsync();
                    Interlocked.Increment(ref served);
                }
                catch (PandoraException e) when (e.Error == PandoraError.Overloaded)
                {
                    Interlocked.Increment(ref refused);
                }
            }
        })));
        Assert.Equal(16 * 60, served + refused);
        Assert.InRange(served, 16 * 30, 16 * 60);
        Assert.InRange(node.Engine.Pools.All.Count, 1, VariantPools.Most + 1);
    }

    [Fact]
    public async Task A_node_that_stops_ends_the_pools_of_sizes_and_makes_no_others()
    {
        var node = new FakeNode(new EngineOptions { PoolSize = 0 }, bootsAreFree: false);
        using var lease = Find(node, 512);
        var claim = lease.ClaimAsync("default", Longest, default).AsTask();
        await FakeNode.UntilAsync(() => node.BootAttempts == 1);
        var pools = node.Engine.Pools;
        await node.DisposeAsync();
        Assert.Equal(PandoraError.ShuttingDown, (await Assert.ThrowsAsync<PandoraException>(() => claim)).Error);
        Assert.All(pools.All, p => Assert.Equal(0, p.BootingCount));
    }

    private static PoolLease Find(FakeNode node, int memory, string project = "default") =>
        node.Engine.Pools.Find("default", new WantedSize(MemoryMib: memory), project)!;

    private static WarmPool PoolOf(FakeNode node, int memory)
    {
        using var lease = Find(node, memory);
        return lease.Pool;
    }
}
