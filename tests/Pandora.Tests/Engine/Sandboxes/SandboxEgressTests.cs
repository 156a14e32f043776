using System.Text.Json;
using Pandora.Engine;
using Pandora.Engine.Projects;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

/// <summary>The egress of a living sandbox: what the record and the rules say at each step, and after a crash.</summary>
public sealed class SandboxEgressTests
{
    [Fact]
    public async Task Rules_record_and_status_have_the_egress_that_was_set()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        foreach (var egress in new[] { Egress.None, Egress.None, Egress.Internet, Egress.Internet, Egress.None })
        {
            await sandbox.SetEgressAsync(egress, default);
            Assert.Equal(
                (egress, egress, egress), (node.Egresses[sandbox.Id], RecordedEgress(node, sandbox.Id), sandbox.Status.Egress.Default));
        }

        // The rest of the claim is as it was.
        Assert.Equal(("me", 30), (sandbox.Status.Metadata["who"], sandbox.Status.Lifetime.Idle.TotalSeconds));
        await node.RestartAsync(isKilled: true);
        Assert.Equal(Egress.None, node.Sandboxes.Get(sandbox.Id).Status.Egress.Default);
        Assert.Equal(Egress.None, node.Egresses[sandbox.Id]);
    }

    [Fact]
    public async Task The_record_never_gives_more_than_was_answered()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        var recorded = new List<(Egress Asked, Egress Recorded)>();
        node.Network.OnEgress = (id, egress) =>
        {
            recorded.Add((egress.Default, RecordedEgress(node, id)));
            return Task.CompletedTask;
        };
        await sandbox.SetEgressAsync(Egress.None, default);
        await sandbox.SetEgressAsync(Egress.Internet, default);
        Assert.Equal([(Egress.None, Egress.None), (Egress.Internet, Egress.None)], recorded);
    }

    [Fact]
    public async Task A_server_that_dies_while_it_takes_the_egress_away_has_a_successor_that_takes_it_away()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        var copy = "";
        node.Network.OnEgress = async (id, _) => copy = await File.ReadAllTextAsync(node.RecordOf(id));
        await sandbox.SetEgressAsync(Egress.None, default);
        await sandbox.SetEgressAsync(Egress.Internet, default);
        // The record as it was before the second change reached the record.
        await node.RestartAsync(isKilled: true, () => File.WriteAllText(node.RecordOf(sandbox.Id), copy));
        Assert.Equal(
            (Egress.None, Egress.None), (node.Egresses[sandbox.Id], node.Sandboxes.Get(sandbox.Id).Status.Egress.Default));
    }

    [Theory]
    [InlineData(Egress.None)]
    [InlineData(Egress.Internet)]
    public async Task Rules_that_cannot_be_set_leave_a_record_without_egress(Egress egress)
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        if (egress == Egress.Internet)
        {
            await sandbox.SetEgressAsync(Egress.None, default);
        }

        node.Network.OnEgress = (_, _) => throw new PandoraException(PandoraError.NotProtected, "the rules could not be set");
        await FailsAsync(() => sandbox.SetEgressAsync(egress, default), PandoraError.NotProtected);
        Assert.Equal((Egress.None, Egress.None), (RecordedEgress(node, sandbox.Id), sandbox.Status.Egress.Default));
        node.Network.OnEgress = (_, _) => Task.CompletedTask;
        await sandbox.SetEgressAsync(egress, default);
        Assert.Equal((egress, egress), (node.Egresses[sandbox.Id], RecordedEgress(node, sandbox.Id)));
    }

    [Theory]
    [InlineData(Egress.None, Egress.Internet)]
    [InlineData(Egress.Internet, Egress.None)]
    public async Task A_record_that_cannot_be_written_leaves_what_was_answered(Egress egress, Egress before)
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        await sandbox.SetEgressAsync(before, default);
        // In the place of the temporary file: root may write anywhere.
        Directory.CreateDirectory(node.RecordOf(sandbox.Id) + ".new");
        await FailsAsync(() => sandbox.SetEgressAsync(egress, default), PandoraError.HostFull);
        Assert.Equal(
            (before, before, before), (node.Egresses[sandbox.Id], RecordedEgress(node, sandbox.Id), sandbox.Status.Egress.Default));
        Directory.Delete(node.RecordOf(sandbox.Id) + ".new");
        await sandbox.SetEgressAsync(egress, default);
        Assert.Equal(egress, node.Egresses[sandbox.Id]);
    }

    [Fact]
    public async Task The_ceilings_of_server_and_project_hold()
    {
        await using var limited = new FakeNode(new EngineOptions { Egress = Egress.None });
        await using var node = new FakeNode(projects: name => new Project(name) { Egress = Egress.None });
        foreach (var each in new[] { limited, node })
        {
            var sandbox = await CreateAsync(each);
            var refused = await FailsAsync(() => sandbox.SetEgressAsync(Egress.Internet, default), PandoraError.EgressForbidden);
            Assert.Equal("egress", refused.Field);
            Assert.EndsWith("gives no sandbox more than egress 'none': ask for 'none'", refused.Message, StringComparison.Ordinal);
            await sandbox.SetEgressAsync(Egress.None, default);
            Assert.Equal(Egress.None, each.Egresses[sandbox.Id]);
        }
    }

    [Fact]
    public async Task Changes_take_turns_and_the_last_one_counts()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        var (running, most) = (0, 0);
        node.Network.OnEgress = async (_, _) =>
        {
            most = Math.Max(most, Interlocked.Increment(ref running));
            await Task.Yield();
            Interlocked.Decrement(ref running);
        };
        await Task.WhenAll(Enumerable.Range(0, 50).Select(i => Task.Run(
            () => sandbox.SetEgressAsync(i % 2 == 0 ? Egress.None : Egress.Internet, default))));
        Assert.Equal(1, most);
        var last = sandbox.Status.Egress.Default;
        Assert.Equal((last, last), (node.Egresses[sandbox.Id], RecordedEgress(node, sandbox.Id)));
    }

    [Fact]
    public async Task A_delete_waits_for_a_change_that_is_under_way_and_those_that_wait_find_no_sandbox()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        var (begun, goOn) = (new TaskCompletionSource(), new TaskCompletionSource());
        node.Network.OnEgress = (_, _) =>
        {
            begun.TrySetResult();
            return goOn.Task;
        };
        var changing = sandbox.SetEgressAsync(Egress.None, default);
        await begun.Task;
        var waiting = sandbox.SetEgressAsync(Egress.Internet, default);
        var deleting = node.Sandboxes.DeleteAsync(sandbox.Id, complete: true);
        await FakeNode.UntilAsync(() => sandbox.End is not null);
        await FailsAsync(() => sandbox.SetEgressAsync(Egress.None, default), PandoraError.SandboxNotFound);
        // The slot is still the sandbox's: nothing of it is given away under the change.
        Assert.Contains(sandbox.Id, node.Network.Held.Values);
        Assert.False(deleting.IsCompleted);
        goOn.SetResult();
        await changing;
        await FailsAsync(() => waiting, PandoraError.SandboxNotFound);
        Assert.All((await deleting).Undone, u => Assert.True(u.IsGone));
        Assert.DoesNotContain(sandbox.Id, node.Network.Held.Values);
        Assert.Equal(Egress.None, node.Egresses[sandbox.Id]);
    }

    [Fact]
    public async Task A_server_that_stops_finishes_a_change_and_begins_none()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        var (begun, goOn) = (new TaskCompletionSource(), new TaskCompletionSource());
        node.Network.OnEgress = (_, _) =>
        {
            begun.TrySetResult();
            return goOn.Task;
        };
        var changing = sandbox.SetEgressAsync(Egress.None, default);
        await begun.Task;
        var waiting = sandbox.SetEgressAsync(Egress.Internet, default);
        var stopping = node.RestartAsync(isKilled: false);
        await FakeNode.UntilAsync(() => !node.Sandboxes.IsOpen);
        Assert.Equal(0, node.Network.Closed.Kept);
        goOn.SetResult();
        await changing;
        await FailsAsync(() => waiting, PandoraError.ShuttingDown);
        await stopping;
        Assert.Equal(Egress.None, node.Sandboxes.Get(sandbox.Id).Status.Egress.Default);
    }

    [Fact]
    public async Task A_client_that_goes_away_ends_its_wait_and_not_a_change()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        var (begun, goOn) = (new TaskCompletionSource(), new TaskCompletionSource());
        node.Network.OnEgress = (_, _) =>
        {
            begun.TrySetResult();
            return goOn.Task;
        };
        using var gone = new CancellationTokenSource();
        var changing = sandbox.SetEgressAsync(Egress.None, gone.Token);
        await begun.Task;
        var waiting = sandbox.SetEgressAsync(Egress.Internet, gone.Token);
        await gone.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        goOn.SetResult();
        await changing;
        Assert.Equal((Egress.None, Egress.None), (node.Egresses[sandbox.Id], RecordedEgress(node, sandbox.Id)));
    }

    [Fact]
    public async Task It_is_an_activity_that_worked()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        node.Time.Advance(TimeSpan.FromSeconds(20));
        Assert.Equal(20, sandbox.Idle.TotalSeconds);
        await sandbox.SetEgressAsync(Egress.None, default);
        Assert.Equal(0, sandbox.Idle.TotalSeconds);
    }

    private static async Task<Sandbox> CreateAsync(FakeNode node) => (await node.Sandboxes.CreateAsync(
        new SandboxRequest(IdleTimeout: 30, Metadata: new Dictionary<string, string> { ["who"] = "me" }), default)).Sandbox;

    private static Egress RecordedEgress(FakeNode node, string id)
    {
        using var record = JsonDocument.Parse(File.ReadAllText(node.RecordOf(id)));
        return Enum.Parse<Egress>(record.RootElement.GetProperty("claim").GetProperty("egress").GetString()!);
    }

    private static async Task<PandoraException> FailsAsync(Func<Task> action, PandoraError error)
    {
        var exception = await Assert.ThrowsAsync<PandoraException>(action);
        Assert.Equal(error, exception.Error);
        return exception;
    }
}
