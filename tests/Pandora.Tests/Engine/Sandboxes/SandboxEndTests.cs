using Pandora.Agent.Protocol;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;
using Microsoft.Extensions.Logging.Abstractions;

namespace Pandora.Tests.Sandboxes;

/// <summary>The end of a sandbox that its client sets, over restarts and settings of the clock, and the record of what it uses.</summary>
public sealed class SandboxEndTests
{
    [Fact]
    public async Task A_sandbox_ends_at_its_end_and_not_before_although_it_is_busy()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node, 60);
        using var lease = sandbox.Use();
        node.Time.Advance(Seconds(59.9));
        Assert.Null(sandbox.End);
        node.Time.Advance(Seconds(0.1));
        await EndsAsync(node, sandbox);
    }

    [Fact]
    public async Task The_end_can_be_moved_both_ways_or_only_back()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node, 60);
        await sandbox.SetEndAsync(Seconds(30), onlyExtend: true, default);
        node.Time.Advance(Seconds(40));
        Assert.Null(sandbox.End);
        await sandbox.SetEndAsync(Seconds(100), onlyExtend: true, default);
        node.Time.Advance(Seconds(90));
        Assert.Null(sandbox.End);
        await sandbox.SetEndAsync(Seconds(5), onlyExtend: false, default);
        node.Time.Advance(Seconds(5));
        await EndsAsync(node, sandbox);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(-1)]
    public async Task Setting_the_wall_clock_does_not_move_the_end_also_when_a_client_asks_for_an_earlier_one(int hours)
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node, 3 * 3600);
        node.Time.Jump(TimeSpan.FromHours(hours));
        await sandbox.SetEndAsync(Seconds(300), onlyExtend: true, default);
        node.Time.Advance(Seconds((3 * 3600) - 1));
        Assert.Null(sandbox.End);
        node.Time.Advance(Seconds(1));
        await EndsAsync(node, sandbox);
    }

    [Fact]
    public async Task A_record_that_cannot_be_written_leaves_the_end()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node, 60);
        // In the place of the temporary file: root may write anywhere.
        Directory.CreateDirectory(node.RecordOf(sandbox.Id) + ".new");
        var failure = await Assert.ThrowsAsync<PandoraException>(() => sandbox.SetEndAsync(Seconds(600), onlyExtend: false, default));
        Assert.Equal(PandoraError.HostFull, failure.Error);
        Directory.Delete(node.RecordOf(sandbox.Id) + ".new");
        node.Time.Advance(Seconds(60));
        await EndsAsync(node, sandbox);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_successor_keeps_the_end_and_the_server_before_it_no_longer_watches_it(bool isKilled)
    {
        await using var node = new FakeNode();
        var before = await CreateAsync(node, 60);
        await node.RestartAsync(isKilled, () => node.Time.Advance(Seconds(20)));
        var sandbox = node.Sandboxes.Get(before.Id);
        node.Time.Advance(Seconds(39));
        Assert.Null(sandbox.End);
        node.Time.Advance(Seconds(1));
        await EndsAsync(node, sandbox);
        Assert.NotEqual(EndReason.Lifetime, before.End?.Reason);
    }

    [Fact]
    public async Task A_sandbox_whose_end_passed_without_a_server_ends_at_adoption()
    {
        await using var node = new FakeNode();
        var id = (await CreateAsync(node, 60)).Id;
        await node.RestartAsync(isKilled: true, () => node.Time.Advance(Seconds(61)));
        await FakeNode.UntilAsync(() => node.Sandboxes.HasEnded(id));
    }

    [Fact]
    public async Task A_wall_clock_that_is_set_back_by_years_delays_the_end_of_an_adopted_sandbox_by_a_day_at_most()
    {
        await using var node = new FakeNode();
        var id = (await CreateAsync(node, 60)).Id;
        await node.RestartAsync(isKilled: true, () => node.Time.Jump(TimeSpan.FromDays(-1000)));
        var sandbox = node.Sandboxes.Get(id);
        node.Time.Advance(TimeSpan.FromHours(24));
        await EndsAsync(node, sandbox);
    }

    [Fact]
    public async Task The_first_record_of_use_comes_within_3_s_the_next_ones_each_5_s_and_hostile_numbers_leave_none()
    {
        await using var node = new FakeNode(hasAgents: true);
        var request = new SandboxRequest { RecordsUsage = true };
        var (sandbox, hostile) = (await CreateAsync(node, request), await CreateAsync(node, request));
        var good = new UsageBody(2, 10, 100, 1000, 400, 300, 2000, 500);
        node.Agents![sandbox.Id].Usage = good.Encode();
        node.Agents[hostile.Id].Usage = (good with { DiskUsed = 2001 }).Encode();
        await using var watch = new UsageWatch(node.Sandboxes, node.Time, NullLogger<UsageWatch>.Instance);
        for (var round = 1; round <= 4; round++)
        {
            node.Time.Advance(UsageWatch.Interval / 2);
            await FakeNode.UntilAsync(() => watch.Rounds == round);
            Assert.Equal(round switch { 1 => 1, 4 => 3, _ => 2 }, sandbox.Usage.Count);
        }

        Assert.Equal(new SandboxUsage(sandbox.Usage[0].At, 2, 10, 400, 1000, 300, 500, 2000), sandbox.Usage[0]);
        Assert.Empty(hostile.Usage);
    }

    private static TimeSpan Seconds(double seconds) => TimeSpan.FromSeconds(seconds);

    private static Task<Sandbox> CreateAsync(FakeNode node, double endsAfter) =>
        CreateAsync(node, new SandboxRequest { EndsAfter = Seconds(endsAfter) });

    private static async Task<Sandbox> CreateAsync(FakeNode node, SandboxRequest request) =>
        (await node.Sandboxes.CreateAsync(request, default)).Sandbox;

    private static async Task EndsAsync(FakeNode node, Sandbox sandbox)
    {
        await FakeNode.UntilAsync(() => node.Sandboxes.HasEnded(sandbox.Id));
        Assert.Equal(EndReason.Lifetime, sandbox.End!.Reason);
    }
}
