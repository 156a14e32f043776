using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

/// <summary>A server that has just started serves the sandboxes that it has adopted and reports the others as recovering.</summary>
public sealed class RecoveringTests
{
    [Fact]
    public async Task Each_sandbox_is_served_once_it_is_adopted_and_only_undecided_ones_wait()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1, MaxSandboxes = 4 });
        var first = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox.Id;
        var slow = (await node.Sandboxes.CreateAsync(new SandboxRequest(IdempotencyKey: "slow"), default)).Sandbox.Id;
        var dead = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox.Id;
        IEnumerable<string> Undecided() =>
            node.Sandboxes.IsOpen ? node.Sandboxes.List().Where(s => s.State == SandboxState.Recovering).Select(s => s.Id) : [];
        var answers = new TaskCompletionSource();
        node.Undecided[slow] = answers.Task;
        node.Undecided[dead] = answers.Task;
        node.Silent.Add(dead);
        var restarting = node.RestartAsync(isKilled: true);
        await FakeNode.UntilAsync(() => Undecided().Count() == 2);

        Assert.Equal(first, node.Sandboxes.Get(first).Id);
        Assert.Equal(PandoraError.Recovering, Assert.Throws<PandoraException>(() => node.Sandboxes.Get(slow)).Error);
        Assert.True(node.Sandboxes.IsRecovering);
        Assert.Equal([slow, dead], Undecided().OrderBy(id => id == dead));
        // Undecided sandboxes count towards the limit. A claim with the key of an undecided sandbox makes no other,
        // and other claims are served.
        Assert.Equal(
            PandoraError.Recovering,
            (
                await Assert.ThrowsAsync<PandoraException>(() =>
                    node.Sandboxes.CreateAsync(new SandboxRequest(IdempotencyKey: "slow"), default)
                )).Error);
        await node.Sandboxes.CreateAsync(new SandboxRequest(), default);
        Assert.Equal(PandoraError.SandboxLimit,
            (await Assert.ThrowsAsync<PandoraException>(() => node.Sandboxes.CreateAsync(new SandboxRequest(), default))).Error);

        answers.SetResult();
        await FakeNode.UntilAsync(() => restarting.IsCompleted);
        await restarting;
        Assert.False(node.Sandboxes.IsRecovering);
        Assert.Equal(slow, (await node.Sandboxes.CreateAsync(new SandboxRequest(IdempotencyKey: "slow"), default)).Sandbox.Id);
        Assert.Equal(PandoraError.SandboxGone, Assert.Throws<PandoraException>(() => node.Sandboxes.Get(dead)).Error);
        Assert.Equal(3, node.Sandboxes.Count);
    }

    [Fact]
    public async Task Undecided_warm_microVMs_are_not_booted_again_unless_a_client_waits()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 2, MaxSandboxes = 4 });
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 2);
        var answers = new TaskCompletionSource();
        foreach (var (_, _, id) in node.Booted)
        {
            node.Undecided[id] = answers.Task;
        }

        var isOpen = new TaskCompletionSource();
        node.OnDeciding = isOpen.SetResult;
        var restarting = node.RestartAsync(isKilled: true);
        await FakeNode.UntilAsync(() => isOpen.Task.IsCompleted);
        Assert.Equal(2, node.BootAttempts);
        await node.Sandboxes.CreateAsync(new SandboxRequest(), default);
        Assert.Equal(3, node.BootAttempts);
        answers.SetResult();
        await FakeNode.UntilAsync(() => restarting.IsCompleted);
        await restarting;
        Assert.Equal(2, node.Pool.WarmCount);
    }

    [Fact]
    public async Task A_refused_claim_leaves_no_sandbox()
    {
        await using var node = new FakeNode { ClaimRefusal = new PandoraException(PandoraError.NotProtected, "the table is gone") };
        Assert.Equal(PandoraError.NotProtected,
            (await Assert.ThrowsAsync<PandoraException>(() => node.Sandboxes.CreateAsync(new SandboxRequest(), default))).Error);
        Assert.Equal(0, node.Sandboxes.Count);
        node.ClaimRefusal = null;
        await node.Sandboxes.CreateAsync(new SandboxRequest(), default);
    }

    [Theory]
    [InlineData(Egress.None, null, Egress.None)]
    [InlineData(Egress.Internet, null, Egress.Internet)]
    [InlineData(Egress.Internet, Egress.None, Egress.None)]
    public async Task The_egress_setting_is_the_default_and_the_ceiling(Egress egress, Egress? byDefault, Egress given)
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1, Egress = egress, EgressDefault = byDefault });
        Assert.Equal(given, (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox.Claim.Egress);
        var wish = node.Sandboxes.CreateAsync(new SandboxRequest(Egress: Egress.Internet), default);
        if (egress == Egress.None)
        {
            var refused = await Assert.ThrowsAsync<PandoraException>(() => wish);
            Assert.Equal((PandoraError.EgressForbidden, "egress"), (refused.Error, refused.Field));
            Assert.Equal(1, node.Sandboxes.Count);
        }
        else
        {
            Assert.Equal(Egress.Internet, (await wish).Sandbox.Claim.Egress);
        }
    }

    [Fact]
    public void A_default_above_the_ceiling_is_refused_at_the_start() =>
        Assert.Contains("PANDORA_EGRESS_DEFAULT",
            Assert.Throws<StartupException>(() => new EngineOptions { Egress = Egress.None, EgressDefault = Egress.Internet }.Check())
            .Message);
}
