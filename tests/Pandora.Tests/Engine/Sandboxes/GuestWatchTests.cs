using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

/// <summary>The watch over guests on fake time: real watch, registry and agent's end.</summary>
public sealed class GuestWatchTests
{
    private readonly HashSet<string> _stalled = [];

    [Fact]
    public async Task A_guest_whose_agent_is_silent_for_a_minute_has_died_and_no_other()
    {
        await using var node = NewNode();
        var (dead, alive) = (await CreateAsync(node), await CreateAsync(node));
        await using var watch = NewWatch(node);
        await RoundAsync(node, watch, alive, dead);
        node.Agents![dead.Id].IsSilent = true;
        for (var i = 0; i < 3; i++)
        {
            await RoundAsync(node, watch, dead, alive);
            Assert.Null(dead.End);
        }

        // 60 s after its last answer.
        node.Time.Advance(TimeSpan.FromSeconds(5));
        await FakeNode.UntilAsync(() => dead.End is not null);
        Assert.Equal((EndReason.Died, "its guest's agent has not answered for 60 s"), (dead.End!.Reason, dead.End.Explanation));
        await FakeNode.UntilAsync(() => node.Sandboxes.Count == 1);
        Assert.True(node.MachineOf(dead.Id).IsDisposed);
        var gone = Assert.Throws<PandoraException>(() => node.Sandboxes.Get(dead.Id));
        Assert.Equal(PandoraError.SandboxGone, gone.Error);
        Assert.Null(alive.End);
    }

    [Fact]
    public async Task An_answer_in_between_begins_the_minute_anew()
    {
        await using var node = NewNode();
        var sandbox = await CreateAsync(node);
        await using var watch = NewWatch(node);
        await RoundAsync(node, watch, sandbox);
        for (var i = 0; i < 8; i++)
        {
            node.Agents![sandbox.Id].IsSilent = i % 3 != 2;
            await RoundAsync(node, watch, sandbox);
        }

        Assert.Null(sandbox.End);
    }

    [Fact]
    public async Task While_a_sandbox_waits_for_its_host_silence_does_not_count()
    {
        await using var node = NewNode();
        var (stalled, other) = (await CreateAsync(node), await CreateAsync(node));
        await using var watch = NewWatch(node);
        await RoundAsync(node, watch, stalled, other);
        node.Agents![stalled.Id].IsSilent = true;
        _stalled.Add(stalled.Id);
        for (var i = 0; i < 10; i++)
        {
            await RoundAsync(node, watch, other);
        }

        _stalled.Clear();
        for (var i = 0; i < 3; i++)
        {
            await RoundAsync(node, watch, stalled);
            Assert.Null(stalled.End);
        }

        node.Time.Advance(TimeSpan.FromSeconds(5));
        await FakeNode.UntilAsync(() => stalled.End is not null);
    }

    [Fact]
    public async Task A_guest_without_an_agent_is_left_to_the_reaper()
    {
        await using var node = new FakeNode();
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(IdleTimeout: 600), default)).Sandbox;
        await using var watch = NewWatch(node);
        for (var i = 1; i <= 6; i++)
        {
            node.Time.Advance(GuestWatch.Interval);
            await FakeNode.UntilAsync(() => watch.Rounds == i);
        }

        Assert.Null(sandbox.End);
    }

    [Fact]
    public async Task Its_end_waits_for_no_answer()
    {
        await using var node = NewNode();
        var sandbox = await CreateAsync(node);
        var watch = NewWatch(node);
        await RoundAsync(node, watch, sandbox);
        var asked = node.Agents![sandbox.Id].Asked;
        node.Agents[sandbox.Id].IsSilent = true;
        node.Time.Advance(TimeSpan.FromSeconds(5));
        await FakeNode.UntilAsync(() => node.Agents[sandbox.Id].Asked == asked + 1);
        await watch.DisposeAsync();
        Assert.Null(sandbox.End);
    }

    [Fact]
    public async Task A_sandbox_whose_disk_had_errors_says_so_in_every_answer()
    {
        await using var node = NewNode();
        var (broken, whole) = (await CreateAsync(node), await CreateAsync(node));
        await using var watch = NewWatch(node);
        await RoundAsync(node, watch, broken, whole);
        Assert.Equal(0, node.Sandboxes.DegradedCount);
        node.Agents![broken.Id].DiskErrors = 1;
        await RoundAsync(node, watch, broken, whole);
        Assert.Equal((true, false, 1), (broken.HasLostData, whole.HasLostData, node.Sandboxes.DegradedCount));
        Assert.Contains("may be lost", broken.Degradation);
        using var execution = await node.StartAsync(broken.Id, new GuestCommand { Code = "exit 0" }, default);
        Assert.True(execution.HasLostData);
        using var other = await node.StartAsync(whole.Id, new GuestCommand { Code = "exit 0" }, default);
        Assert.False(other.HasLostData);
    }

    private static FakeNode NewNode() => new(new EngineOptions { PoolSize = 2, MaxSandboxes = 5, MaxIdleTimeout = 6000 }, hasAgents: true);

    private static async Task<Sandbox> CreateAsync(FakeNode node) =>
        (await node.Sandboxes.CreateAsync(new SandboxRequest(IdleTimeout: 6000), default)).Sandbox;

    private GuestWatch NewWatch(FakeNode node) => new(node.Sandboxes, s => _stalled.Contains(s.Id), node.Time, NullLogger.Instance);

    // From 10 s after one tick to 10 s after the next, by when every question has been answered or given up.
    private static async Task RoundAsync(FakeNode node, GuestWatch watch, params Sandbox[] asked)
    {
        var rounds = watch.Rounds;
        // An answer that is on its way must have come before the question's time is over.
        int CountOf(Sandbox s)
        {
            if (!node.Agents!.TryGetValue(s.Id, out var agent))
            {
                return 0;
            }

            return agent.IsSilent ? agent.Asked : agent.Answered;
        }

        var before = asked.ToDictionary(s => s, CountOf);
        node.Time.Advance(TimeSpan.FromSeconds(rounds == 0 ? 15 : 5));
        await FakeNode.UntilAsync(() => asked.All(s => CountOf(s) == before[s] + 1));
        node.Time.Advance(TimeSpan.FromSeconds(10));
        await FakeNode.UntilAsync(() => watch.Rounds == rounds + 1);
    }
}
