using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

/// <summary>The watch over guests: the real watch, registry and server's end of the agent, on fake time.</summary>
public sealed class GuestWatchTests
{
    private readonly HashSet<string> _stalled = [];

    [Fact]
    public async Task Only_a_guest_whose_agent_is_silent_for_a_minute_has_died()
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

        // 60 s after the last answer of its agent.
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
    public async Task An_answer_in_between_restarts_the_minute()
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
    public async Task Silence_does_not_count_while_a_microVM_waits_for_its_host()
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
    public async Task The_watch_does_not_end_a_guest_without_an_agent()
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
    public async Task The_end_of_the_watch_waits_for_no_answer()
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
    public async Task Every_answer_of_a_sandbox_with_disk_errors_says_so()
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

    // Goes from 10 s after one tick to 10 s after the next. By then each question has been answered or has timed out.
    private static async Task RoundAsync(FakeNode node, GuestWatch watch, params Sandbox[] asked)
    {
        var rounds = watch.Rounds;
        // An answer that is on its way must arrive before the question times out.
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
