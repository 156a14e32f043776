using System.Collections.Concurrent;
using CsCheck;
using Pandora.Engine;
using Pandora.Engine.Pools;
using Pandora.Fakes;

namespace Pandora.Tests.Pools;

/// <summary>No project takes the pool from the others.</summary>
public sealed class FairnessTests
{
    [Fact]
    public async Task A_single_claim_is_served_next_although_another_project_has_two_hundred_waiting()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0 }, bootsAreFree: false);
        var many = await WaitAsync(node, "a", 200);
        node.AllowBoots(1);
        await many[0];
        var single = (await WaitAsync(node, "b", 1))[0];
        node.AllowBoots(1);
        Assert.False((await single).IsWarm);
        Assert.Equal(199, node.Pool.WaitingCount);
        Assert.Equal(1, many.Count(m => m.IsCompleted));
    }

    [Fact]
    public async Task Waiting_projects_are_served_in_turn()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0 }, bootsAreFree: false);
        var (a, b) = (await WaitAsync(node, "a", 4), await WaitAsync(node, "b", 2));
        foreach (var next in new[] { a[0], b[0], a[1], b[1], a[2], a[3] })
        {
            var before = a.Concat(b).Count(t => t.IsCompleted);
            node.AllowBoots(1);
            await next;
            Assert.Equal(before + 1, a.Concat(b).Count(t => t.IsCompleted));
        }
    }

    [Fact]
    public async Task The_last_warm_microVM_is_kept_for_a_project_that_does_not_wait()
    {
        await using var node = await StartWithProjectsAsync("a", "b");
        var flood = await WaitAsync(node, "a", 5);
        await AllowAsync(node, 1);
        Assert.Equal((1, 5), (node.Pool.WarmCount, node.Pool.WaitingCount));
        await AllowAsync(node, 1);
        await flood[0];
        Assert.Equal((1, 4), (node.Pool.WarmCount, node.Pool.WaitingCount));

        Assert.True((await ClaimAsync(node, "b")).IsWarm);
        Assert.Equal((0, 4), (node.Pool.WarmCount, node.Pool.WaitingCount));
        // The next one replaces it, and the one after is for a waiting claim.
        await AllowAsync(node, 1);
        Assert.Equal((1, 4), (node.Pool.WarmCount, node.Pool.WaitingCount));
        await AllowAsync(node, 1);
        await flood[1];

        // At the end, the pool is as full as ever.
        node.AllowBoots(100);
        await Task.WhenAll(flood);
        await FakeNode.UntilAsync(() => node.Pool is { WarmCount: 2, BootingCount: 0 });
    }

    [Fact]
    public async Task Nothing_is_kept_when_all_projects_wait()
    {
        await using var node = await StartWithProjectsAsync("a", "b");
        var (a, b) = (await WaitAsync(node, "a", 2), await WaitAsync(node, "b", 1));
        await AllowAsync(node, 1);
        Assert.False(b[0].IsCompleted);
        await a[0];
        await AllowAsync(node, 1);
        await b[0];
        // Now b does not wait.
        await AllowAsync(node, 1);
        Assert.Equal((1, 1), (node.Pool.WarmCount, node.Pool.WaitingCount));
    }

    [Theory]
    [InlineData(2, false)]
    [InlineData(1, true)]
    public async Task Nothing_is_kept_with_one_project_or_in_a_pool_of_one(int size, bool hasOther)
    {
        await using var node = await StartWithProjectsAsync(size, hasOther ? ["a", "b"] : ["a"]);
        var waiting = await WaitAsync(node, "a", 2);
        await AllowAsync(node, 1);
        await waiting[0];
        await AllowAsync(node, 1);
        await waiting[1];
    }

    [Fact]
    public async Task Nothing_is_kept_for_a_project_that_has_not_claimed_for_a_while()
    {
        await using var node = await StartWithProjectsAsync("a", "b");
        // A boot that has begun would run out of time.
        await AllowAsync(node, 2);
        node.Time.Advance(WaitingClaims.Memory);
        Assert.True((await ClaimAsync(node, "a")).IsWarm);
        Assert.True((await ClaimAsync(node, "a")).IsWarm);
        var waiting = await WaitAsync(node, "a", 1);
        await AllowAsync(node, 1);
        await waiting[0];
    }

    [Fact]
    public async Task A_waiting_claim_gets_the_last_one_when_none_comes_after_it()
    {
        await using var node = await StartWithProjectsAsync("a", "b");
        var waiting = await WaitAsync(node, "a", 2);
        await AllowAsync(node, 1);
        node.BootFailure = new InvalidOperationException("no");
        node.AllowBoots(100);
        await FakeNode.UntilAsync(() => node.Pool.BootingCount == 0);
        node.Time.Advance(TimeSpan.FromSeconds(9.9));
        Assert.Equal((1, 2), (node.Pool.WarmCount, node.Pool.WaitingCount));
        node.Time.Advance(TimeSpan.FromSeconds(0.2));
        await waiting[0];
        Assert.Equal((0, 1), (node.Pool.WarmCount, node.Pool.WaitingCount));

        // The pool recovers, and has a reserve again.
        node.BootFailure = null;
        await FakeNode.UntilAsync(() =>
        {
            node.Time.Advance(TimeSpan.FromSeconds(node.Pool.BootingCount == 0 ? 0.2 : 0));
            return node.Pool.WarmCount == 2;
        });
        await waiting[1];
    }

    [Fact]
    public async Task A_claim_over_the_bound_displaces_the_newest_of_the_project_with_the_most()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0, MaxWaiting = 3 }, bootsAreFree: false);
        var many = await WaitAsync(node, "a", 3);
        var single = ClaimAsync(node, "b");
        var displaced = await Assert.ThrowsAsync<PandoraException>(() => many[2]);
        Assert.Equal(PandoraError.Overloaded, displaced.Error);
        Assert.StartsWith("3 clients wait", displaced.Message);
        Assert.Contains("PANDORA_MAX_WAITING", displaced.Hint);
        Assert.Equal(3, node.Pool.WaitingCount);

        Assert.Equal(PandoraError.Overloaded, (await Assert.ThrowsAsync<PandoraException>(() => ClaimAsync(node, "a"))).Error);
        node.AllowBoots(10);
        await Task.WhenAll(many[0], many[1], single);
    }

    [Fact]
    public async Task A_claim_that_is_cancelled_while_it_is_served_loses_no_microVM()
    {
        var runs = Gen.Select(Gen.Int[0, 3], Gen.Int[1, 20], Gen.Int[1, 3], Gen.Int[1, 30]);
        await runs.SampleAsync(
            async (poolSize, claims, projects, maxWaiting) =>
            {
                await using var node = new FakeNode(
                    new EngineOptions { PoolSize = poolSize, MaxWaiting = maxWaiting }, bootsAreFree: false);
                var pool = node.Pool;
                var served = new ConcurrentBag<ClaimedMicroVm>();
                var cancels = Enumerable.Range(0, claims).Select(_ => new CancellationTokenSource()).ToList();
                var all = cancels.Select((c, i) => Task.Run(async () =>
                {
                    try
                    {
                        var claimed = await pool.ClaimAsync($"project {i % projects}", TimeSpan.FromSeconds(90), c.Token);
                        Assert.True(claimed.MicroVm.IsAlive);
                        // As SandboxClaims does when it may not use the microVM.
                        if (i % 5 == 0)
                        {
                            Assert.True(pool.Return(claimed.MicroVm));
                        }
                        else
                        {
                            served.Add(claimed);
                        }
                    }
                    catch (Exception e) when (e is OperationCanceledException or PandoraException { Error: PandoraError.Overloaded })
                    {
                        // It got none.
                    }
                })).ToList();
                // Half of the claims are cancelled while microVMs are handed out one by one.
                await Task.WhenAll(
                    Task.Run(() => cancels.Where((_, i) => i % 2 == 0).ToList().ForEach(c => c.Cancel())),
                    Task.Run(() => Enumerable.Range(0, claims + poolSize).ToList().ForEach(_ => node.AllowBoots(1))));
                node.AllowBoots(1000);
                await Task.WhenAll(all);
                cancels.ForEach(c => c.Dispose());
                Assert.Equal(0, pool.WaitingCount);
                Assert.Equal(served.Count, served.Select(s => s.MicroVm.Id).Distinct().Count());
                await FakeNode.UntilAsync(() => pool.WarmCount == poolSize && pool.BootingCount == 0
                    && node.Booted.Count(b => b.Machine.IsRunning) == served.Count + poolSize);
                await Task.WhenAll(served.Select(s => s.MicroVm.Teardown.CompleteAsync()));
            }, iter: 150, threads: 1);
    }

    // A pool that is empty and boots, and from which each of the projects has claimed.
    private static Task<FakeNode> StartWithProjectsAsync(params string[] projects) => StartWithProjectsAsync(2, projects);

    private static async Task<FakeNode> StartWithProjectsAsync(int size, string[] projects)
    {
        var node = new FakeNode(new EngineOptions { PoolSize = size }, bootsAreFree: false);
        foreach (var project in projects)
        {
            await AllowAsync(node, 1);
            await ClaimAsync(node, project);
        }

        return node;
    }

    private static Task<ClaimedMicroVm> ClaimAsync(FakeNode node, string project) =>
        node.Pool.ClaimAsync(project, TimeSpan.FromSeconds(90), default).AsTask();

    private static async Task<Task<ClaimedMicroVm>[]> WaitAsync(FakeNode node, string project, int count)
    {
        var before = node.Pool.WaitingCount;
        var claims = Enumerable.Range(0, count).Select(_ => ClaimAsync(node, project)).ToArray();
        Assert.Equal(before + count, node.Pool.WaitingCount);
        // The refill has noticed them.
        await FakeNode.UntilAsync(() => node.Pool.BootingCount > 0);
        return claims;
    }

    // Lets boots complete, and waits until the pool has them.
    private static async Task AllowAsync(FakeNode node, int count)
    {
        var before = Available(node);
        node.AllowBoots(count);
        await FakeNode.UntilAsync(() => Available(node) == before + count);

        // Each microVM that becomes available adds a warm one or serves a claim.
        static int Available(FakeNode node) => node.Pool.WarmCount - node.Pool.WaitingCount;
    }
}
