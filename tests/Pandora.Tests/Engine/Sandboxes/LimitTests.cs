using CsCheck;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

/// <summary>Existing sandboxes and waiting claims are counted separately, and each count has its own limit.</summary>
public sealed class LimitTests
{
    [Fact]
    public async Task Waiting_claims_do_not_count_as_sandboxes()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0, MaxSandboxes = 3, MaxWaiting = 4 }, bootsAreFree: false);
        node.AllowBoots(1);
        await node.Sandboxes.CreateAsync(new SandboxRequest(), default);
        var waiting = Enumerable.Range(0, 4).Select(_ => node.Sandboxes.CreateAsync(new SandboxRequest(), default)).ToList();
        await FakeNode.UntilAsync(() => node.Pool.WaitingCount == 4);
        Assert.Equal(1, node.Sandboxes.Count);

        var refused = await Assert.ThrowsAsync<PandoraException>(() => node.Sandboxes.CreateAsync(new SandboxRequest(), default));
        Assert.Equal(PandoraError.Overloaded, refused.Error);
        Assert.Contains("4 clients wait", refused.Message);
        Assert.Contains("PANDORA_MAX_WAITING", refused.Hint);

        // Two claims get a place. The next microVMs wake the others, which are refused and take no microVM.
        node.AllowBoots(10);
        var ends = await Task.WhenAll(
            waiting.Select(w => w.ContinueWith(t => t.Exception?.InnerException as PandoraException, TaskScheduler.Default)));
        Assert.Equal(2, ends.Count(e => e is null));
        Assert.All(ends.OfType<PandoraException>(), e =>
        {
            Assert.Equal(PandoraError.SandboxLimit, e.Error);
            Assert.StartsWith("3 sandboxes exist", e.Message);
        });
        Assert.Equal(3, node.Sandboxes.Count);
        Assert.Equal(0, node.Pool.WaitingCount);
        Assert.Equal(3, node.Sandboxes.List().Count);
        await FakeNode.UntilAsync(() => node.Booted.Count(b => b.Machine.IsRunning) == 3);

        var full = await Assert.ThrowsAsync<PandoraException>(() => node.Sandboxes.CreateAsync(new SandboxRequest(), default));
        Assert.Equal(PandoraError.SandboxLimit, full.Error);
        Assert.Contains("PANDORA_MAX_SANDBOXES", full.Hint);
        Assert.DoesNotContain("PANDORA_", full.Message);
    }

    [Fact]
    public async Task The_microVM_of_a_refused_claim_goes_to_the_next_claim()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 }, bootsAreFree: false);
        var waiting = node.Sandboxes.CreateAsync(new SandboxRequest(), default);
        await FakeNode.UntilAsync(() => node.Pool.WaitingCount == 1);
        node.ClaimRefusal = new PandoraException(PandoraError.NotProtected, "a test says so");
        node.AllowBoots(1);
        Assert.Equal(PandoraError.NotProtected, (await Assert.ThrowsAsync<PandoraException>(() => waiting)).Error);
        Assert.Equal((0, 1), (node.Sandboxes.Count, node.Pool.WarmCount));

        node.ClaimRefusal = null;
        var created = await node.Sandboxes.CreateAsync(new SandboxRequest(), default);
        Assert.Equal((true, node.Booted[0].Id), (created.IsWarm, created.Sandbox.Id));
        Assert.Single(node.Booted);
    }

    [Fact]
    public async Task A_waiting_claim_takes_the_place_of_a_deleted_sandbox()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0, MaxSandboxes = 1 }, bootsAreFree: false);
        node.AllowBoots(1);
        var first = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox;
        await node.Sandboxes.DeleteAsync(first.Id, complete: true);
        var waiting = node.Sandboxes.CreateAsync(new SandboxRequest(), default);
        await FakeNode.UntilAsync(() => node.Pool.WaitingCount == 1);
        Assert.Equal(0, node.Sandboxes.Count);
        node.AllowBoots(1);
        await waiting;
        Assert.Equal(1, node.Sandboxes.Count);
    }

    [Fact]
    public async Task Concurrent_claims_never_exceed_the_limit_and_lose_no_microVM()
    {
        var runs = Gen.Select(Gen.Int[0, 3], Gen.Int[1, 5], Gen.Int[1, 12], Gen.Int[0, 30]);
        await runs.SampleAsync(
            async (poolSize, most, maxWaiting, askers) =>
            {
                await using var node = new FakeNode(
                    new EngineOptions { PoolSize = poolSize, MaxSandboxes = most, MaxWaiting = maxWaiting });
                var peak = 0;
                var all = Enumerable.Range(0, askers).Select(i => Task.Run(async () =>
                {
                    try
                    {
                        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox;
                        Peak(ref peak, node.Sandboxes.List().Count);
                        Peak(ref peak, node.Sandboxes.Count);
                        if (i % 3 == 0)
                        {
                            await node.Sandboxes.DeleteAsync(sandbox.Id, complete: true);
                            return (Error: (PandoraError?)null, Lives: false);
                        }

                        return (Error: null, Lives: true);
                    }
                    catch (PandoraException e)
                    {
                        return (e.Error, Lives: false);
                    }
                })).ToList();
                var ends = await Task.WhenAll(all);
                Assert.True(peak <= most, $"{peak} existed, and {most} may");
                Assert.All(ends,
                    e => Assert.Contains(e.Error, new PandoraError?[] { null, PandoraError.SandboxLimit, PandoraError.Overloaded }));
                Assert.Equal(ends.Count(e => e.Lives), node.Sandboxes.Count);
                Assert.Equal(0, node.Pool.WaitingCount);
                // A microVM that was handed out and not used is warm again, or was ended because the pool was full.
                await FakeNode.UntilAsync(() => node.Booted.Count(b => b.Machine.IsRunning) == node.Sandboxes.Count + poolSize
                    && node.Pool.WarmCount == poolSize);
                await node.Sandboxes.CloseAsync();
                await node.Pool.DisposeAsync();
                await FakeNode.UntilAsync(() => node.Booted.All(b => b.Machine.IsDisposed));
            }, iter: 150, threads: 1);
    }

    private static void Peak(ref int peak, int now)
    {
        for (var seen = Volatile.Read(ref peak); now > seen;)
        {
            var was = Interlocked.CompareExchange(ref peak, now, seen);
            seen = was == seen ? now : was;
        }
    }
}
