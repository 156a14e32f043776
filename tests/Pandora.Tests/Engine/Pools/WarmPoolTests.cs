using Pandora.Engine;
using Pandora.Engine.MicroVms;
using Pandora.Fakes;

namespace Pandora.Tests.Pools;

public sealed class WarmPoolTests
{
    [Fact]
    public async Task The_pool_fills_to_its_size_and_refills_after_a_claim()
    {
        await using var node = new FakeNode();
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 2);
        var claimed = await node.Pool.ClaimAsync("a", TimeSpan.FromSeconds(1), default);
        Assert.True(claimed.IsWarm);
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 2);
        Assert.Equal(3, node.Booted.Count);
    }

    [Fact]
    public async Task Waiting_claims_are_served_in_order()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0 }, bootsAreFree: false);
        var first = node.Pool.ClaimAsync("a", TimeSpan.FromSeconds(90), default).AsTask();
        await FakeNode.UntilAsync(() => node.Pool.WaitingCount == 1);
        var second = node.Pool.ClaimAsync("a", TimeSpan.FromSeconds(90), default).AsTask();
        await FakeNode.UntilAsync(() => node.BootAttempts == 2);
        node.AllowBoots(1);
        Assert.False((await first).IsWarm);
        Assert.False(second.IsCompleted);
        node.AllowBoots(1);
        await second;
    }

    [Fact]
    public async Task The_pool_boots_one_microVM_for_each_waiting_claim_beside_its_size()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 2 }, bootsAreFree: false);
        var waiters = Enumerable.Range(0, 3).Select(_ => node.Pool.ClaimAsync("a", TimeSpan.FromSeconds(90), default).AsTask()).ToArray();
        await FakeNode.UntilAsync(() => node.BootAttempts == 5);
        node.AllowBoots(5);
        await Task.WhenAll(waiters);
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 2);
        Assert.Equal(5, node.BootAttempts);
    }

    [Fact]
    public async Task A_microVM_that_died_while_warm_is_never_claimed_and_is_replaced()
    {
        await using var node = new FakeNode();
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 2);
        var dead = node.Booted[0];
        dead.Machine.Die("a test killed it");
        await FakeNode.UntilAsync(() => node.Booted.Count == 3 && node.Pool.WarmCount == 2);
        await FakeNode.UntilAsync(() => dead.Machine.IsDisposed);
        for (var i = 0; i < 2; i++)
        {
            Assert.NotEqual(dead.Id, (await node.Pool.ClaimAsync("a", TimeSpan.FromSeconds(1), default)).MicroVm.Id);
        }
    }

    [Fact]
    public async Task A_returned_microVM_is_watched_again_and_a_returned_dead_one_is_ended()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 2 }, bootsAreFree: false);
        node.AllowBoots(2);
        var (first, second) = (await ClaimAsync(), await ClaimAsync());
        Assert.True(node.Pool.Return(first));
        Assert.Equal(1, node.Pool.WarmCount);
        var machine = node.MachineOf(first.Id);
        machine.Die("a test killed it in the pool");
        await FakeNode.UntilAsync(() => machine.IsDisposed && node.Pool.WarmCount == 0);

        node.MachineOf(second.Id).Die("a test killed it outside the pool");
        Assert.True(node.Pool.Return(second));
        Assert.Equal(0, node.Pool.WarmCount);
        await FakeNode.UntilAsync(() => node.MachineOf(second.Id).IsDisposed);

        async Task<MicroVm> ClaimAsync() => (await node.Pool.ClaimAsync("a", TimeSpan.FromSeconds(1), default)).MicroVm;
    }

    [Fact]
    public async Task A_claim_that_runs_out_of_time_reports_why_no_microVM_came()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 });
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 1);
        node.BootFailure = new BootException(BootStep.Guest, "boot failed at step 'guest': no disk\nand a long console");
        await node.Pool.ClaimAsync("a", TimeSpan.FromSeconds(1), default);
        var waiting = node.Pool.ClaimAsync("a", TimeSpan.FromSeconds(90), default).AsTask();
        await FakeNode.UntilAsync(() => node.BootAttempts >= 2 && node.Pool.WaitingCount == 1);
        await FakeNode.UntilAsync(() => node.Pool.BootingCount == 0);
        node.Time.Advance(TimeSpan.FromSeconds(91));
        var exception = await Assert.ThrowsAsync<PandoraException>(() => waiting);
        Assert.Equal(PandoraError.PoolEmpty, exception.Error);
        Assert.Contains("no disk", exception.Hint);
        Assert.DoesNotContain("console", exception.Message);
    }

    [Fact]
    public async Task The_pause_grows_after_each_failed_boot_and_the_pool_recovers()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 }, bootsAreFree: false);
        node.BootFailure = new InvalidOperationException("no");
        foreach (var seconds in new[] { 1, 2, 4 })
        {
            var attempts = node.BootAttempts;
            await FakeNode.UntilAsync(() => node.BootAttempts == attempts + 1 || node.Pool.BootingCount == 1);
            node.AllowBoots(1);
            await FakeNode.UntilAsync(() => node.Pool.BootingCount == 0);
            attempts = node.BootAttempts;
            node.Time.Advance(TimeSpan.FromSeconds(seconds - 0.1));
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System);
            Assert.Equal(attempts, node.BootAttempts);
            // The pool may have begun its pause a moment after the clock was moved.
            await FakeNode.UntilAsync(() =>
            {
                Wait();
                return node.BootAttempts == attempts + 1;
            });
        }

        node.BootFailure = null;
        node.AllowBoots(10);
        await FakeNode.UntilAsync(() =>
        {
            Wait();
            return node.Pool.WarmCount == 1;
        });

        // Moves the clock only while no microVM boots, because its boot would run out of time.
        void Wait() => node.Time.Advance(TimeSpan.FromSeconds(node.Pool.BootingCount == 0 ? 0.2 : 0));
    }

    [Fact]
    public async Task A_cancelled_claim_takes_no_microVM()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 }, bootsAreFree: false);
        using var impatient = new CancellationTokenSource();
        var waiting = node.Pool.ClaimAsync("a", TimeSpan.FromSeconds(90), impatient.Token).AsTask();
        await FakeNode.UntilAsync(() => node.Pool.WaitingCount == 1);
        await impatient.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        Assert.Equal(0, node.Pool.WaitingCount);
        node.AllowBoots(10);
        await FakeNode.UntilAsync(() => node.Pool.WarmCount >= 1);
        Assert.True((await node.Pool.ClaimAsync("a", TimeSpan.FromSeconds(1), default)).IsWarm);
    }

    [Fact]
    public async Task Warm_microVMs_are_maintained_regularly_and_at_once_when_the_hosts_clock_is_set()
    {
        await using var node = new FakeNode(hasAgents: true);
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 2);
        node.Time.Advance(TimeSpan.FromSeconds(29));
        Assert.Empty(node.Maintained);
        await FakeNode.UntilAsync(() =>
        {
            node.Time.Advance(TimeSpan.FromSeconds(1));
            return node.Maintained.Count >= 2;
        });
        var before = node.Maintained.Count;
        Assert.Equal(node.Booted.Select(b => b.Id).Order(), node.Maintained.Distinct().Order());
        node.Time.Jump(TimeSpan.FromHours(-3));
        await FakeNode.UntilAsync(() =>
        {
            node.Time.Advance(TimeSpan.FromSeconds(1));
            return node.Maintained.Count >= before + 2;
        });
    }

    [Fact]
    public async Task Maintenance_of_a_microVM_stops_when_it_is_claimed()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 }, hasAgents: true);
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 1);
        node.Agents![node.Booted[0].Id].IsSilent = true;
        async Task MaintainedAsync(int count) => await FakeNode.UntilAsync(() =>
        {
            // The clock stops once the count is reached: on a busy machine the question of the agent would time out.
            if (node.Maintained.Count >= count)
            {
                return true;
            }

            node.Time.Advance(TimeSpan.FromSeconds(1));
            return false;
        });
        await MaintainedAsync(1);
        var claimed = await node.Pool.ClaimAsync("a", TimeSpan.FromSeconds(1), default);
        Assert.Equal(node.Maintained[0], claimed.MicroVm.Id);
        // The next microVM is maintained. If the pool still waited for the first, it would not be. The clock stands while it boots:
        // otherwise the boot runs out of time.
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 1);
        await MaintainedAsync(2);
        Assert.True(claimed.MicroVm.IsAlive);
        Assert.NotEqual(node.Maintained[0], node.Maintained[1]);
    }

    [Fact]
    public async Task A_microVM_that_cannot_be_maintained_is_replaced()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 }, hasAgents: true);
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 1);
        node.Agents![node.Booted[0].Id].IsSilent = true;
        await FakeNode.UntilAsync(() =>
        {
            node.Time.Advance(TimeSpan.FromSeconds(1));
            return node.Booted[0].Machine.IsDisposed;
        });
        await FakeNode.UntilAsync(() =>
        {
            // The boot of the next one may have run out of time while the clock was moved: then the pool pauses.
            if (node.Pool.WarmCount == 0 && node.Pool.BootingCount == 0)
            {
                node.Time.Advance(TimeSpan.FromSeconds(1));
            }

            return node.Pool.WarmCount == 1 && node.Booted.Count >= 2;
        });
        Assert.NotEqual(node.Booted[0].Id, (await node.Pool.ClaimAsync("a", TimeSpan.FromSeconds(1), default)).MicroVm.Id);
    }

    [Fact]
    public async Task Closing_ends_the_warm_microVMs_and_refuses_waiting_claims()
    {
        var node = new FakeNode(new EngineOptions { PoolSize = 0 }, bootsAreFree: false);
        var waiting = node.Pool.ClaimAsync("a", TimeSpan.FromSeconds(90), default).AsTask();
        await FakeNode.UntilAsync(() => node.BootAttempts == 1);
        await node.DisposeAsync();
        Assert.Equal(PandoraError.ShuttingDown, (await Assert.ThrowsAsync<PandoraException>(() => waiting)).Error);
        Assert.All(node.Booted, b => Assert.True(b.Machine.IsDisposed));
    }
}
