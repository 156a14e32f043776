using Pandora.Engine.MicroVms;
using Pandora.Engine;

namespace Pandora.Tests.MicroVms;

public sealed class TeardownTests
{
    private static HostResource Named(string name) => new(ResourceKind.File, name);

    [Fact]
    public async Task Steps_run_once_newest_first_and_continue_after_errors()
    {
        var order = new List<string>();
        var teardown = new Teardown(TimeProvider.System);
        foreach (var name in new[] { "slot", "disk", "vmm" })
        {
            teardown.Push(Named(name), () =>
            {
                lock (order)
                {
                    order.Add(name);
                }

                return name == "disk" ? throw new IOException("busy") : ValueTask.CompletedTask;
            });
        }

        var reports = await Task.WhenAll(Enumerable.Range(0, 10).Select(_ => Task.Run(teardown.CompleteAsync)));
        Assert.Equal(["vmm", "disk", "slot"], order);
        Assert.All(reports, r => Assert.Equal(["vmm", "disk", "slot"], r.Select(u => u.Resource.Name)));
        Assert.Equal("busy", reports[0][1].Error);
        Assert.Throws<InvalidOperationException>(() => teardown.Push(Named("late"), () => ValueTask.CompletedTask));
    }

    [Fact]
    public async Task Steps_continue_when_a_resource_cannot_be_checked()
    {
        var remaining = new List<Undone>();
        var teardown = new Teardown(TimeProvider.System, remaining.Add);
        teardown.Push(Named("slot"), () => ValueTask.CompletedTask, canWait: true);
        teardown.Push(new HostResource(ResourceKind.Process, "no pid/no time"), () => ValueTask.CompletedTask);
        var undone = await teardown.CompleteAsync();
        Assert.Equal([(false, true), (true, false)], undone.Select(u => (u.IsGone, u.Error is not null)));
        Assert.Same(undone[0], Assert.Single(remaining));
    }

    [Fact]
    public async Task A_step_that_can_wait_runs_last_and_an_end_does_not_wait_for_it()
    {
        var slotMayGo = new TaskCompletionSource();
        var teardown = new Teardown(TimeProvider.System);
        teardown.Push(Named("slot"), () => new ValueTask(slotMayGo.Task), canWait: true);
        teardown.Push(Named("vmm"), () => ValueTask.CompletedTask);
        Assert.Equal(["vmm"], (await teardown.EndAsync()).Select(u => u.Resource.Name));
        var complete = teardown.CompleteAsync();
        Assert.False(complete.IsCompleted);
        slotMayGo.SetResult();
        Assert.Equal(["vmm", "slot"], (await complete).Select(u => u.Resource.Name));
    }
}
