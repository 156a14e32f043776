using CsCheck;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

/// <summary>Random histories of a node, compared with a model: which sandboxes live and are found, and how many there are.</summary>
public sealed class SandboxModelTests
{
    private enum Step
    {
        Create, Exec, TimesOut, KeepAlive, Begin, EndWorked, EndFailed, Delete, Die, Advance, DieWarm,
    }

    [Fact]
    public async Task In_any_history_the_count_is_right_and_every_sandbox_ends_once()
    {
        var step = Gen.Select(Gen.Enum<Step>(), Gen.Int[0, 9]);
        await step.Array[1, 40].SampleAsync(RunAsync, iter: 100, threads: 1);
    }

    private static async Task RunAsync((Step Step, int Which)[] history)
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 2, MaxSandboxes = 4, IdleTimeout = 10 });
        var living = new List<Living>();
        var ended = new HashSet<string>();
        var now = 0.0;
        bool IsWarm(string id) => node.MachineOf(id).IsRunning && !living.Any(l => l.Id == id);
        foreach (var (step, which) in history)
        {
            switch (step)
            {
                case Step.Create when living.Count < 4:
                    await FakeNode.UntilAsync(() => node.Pool.WarmCount > 0);
                    living.Add(new Living((await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox, now));
                    break;
                case Step.Create:
                    Assert.Equal(
                        PandoraError.SandboxLimit,
                        (await Assert.ThrowsAsync<PandoraException>(() => node.Sandboxes.CreateAsync(new SandboxRequest(), default))).Error
                    );
                    break;
                case Step.Exec when living.Count > 0:
                    await UseAsync(living[which % living.Count], async l =>
                    {
                        Assert.Equal(which, (await node.ExecAsync(l.Id, $"exit {which}")).ExitCode);
                        l.Worked(now);
                    });
                    break;
                case Step.TimesOut when living.Count > 0:
                    var outcome = (CommandOutcome)(which % 4);
                    await UseAsync(living[which % living.Count], async l =>
                    {
                        Assert.Equal(outcome, (await node.ExecAsync(l.Id, $"timeout {outcome}")).Stopped!.Outcome);
                        l.HasFailed = outcome is CommandOutcome.NotStarted or CommandOutcome.Unreachable;
                        l.IdleSince = l.HasFailed ? l.IdleSince : now;
                    });
                    break;
                case Step.KeepAlive when living.Count > 0:
                    living[which % living.Count].Sandbox.KeepAlive();
                    living[which % living.Count].Worked(now);
                    break;
                case Step.Begin when living.Count > 0:
                    await UseAsync(living[which % living.Count], l =>
                    {
                        l.Held.Enqueue((l.Sandbox.Use(isExec: true), now));
                        return Task.CompletedTask;
                    });
                    break;
                case Step.EndWorked or Step.EndFailed when living.Count > 0 && living[which % living.Count].Held.TryDequeue(out var held):
                    held.Lease.HasWorked = step == Step.EndWorked;
                    held.Lease.Dispose();
                    living[which % living.Count].HasFailed = step == Step.EndFailed;
                    living[which % living.Count].IdleSince = step == Step.EndWorked ? now : living[which % living.Count].IdleSince;
                    break;
                case Step.Delete when living.Count > 0:
                    await node.Sandboxes.DeleteAsync(living[which % living.Count].Id, complete: which % 2 == 0);
                    End(which % living.Count);
                    break;
                case Step.Die when living.Count > 0:
                    var dying = living[which % living.Count].Id;
                    node.MachineOf(dying).Die("a test said so");
                    End(which % living.Count);
                    await FakeNode.UntilAsync(() => node.Sandboxes.Count == living.Count);
                    break;
                case Step.DieWarm:
                    await FakeNode.UntilAsync(() => node.Pool.WarmCount == 2 && node.Booted.Any(b => IsWarm(b.Id)));
                    node.Booted.First(b => IsWarm(b.Id)).Machine.Die("while it was warm");
                    break;
                case Step.Advance:
                    now += which;
                    node.Time.Advance(TimeSpan.FromSeconds(which));
                    await node.Sandboxes.ReapAsync();
                    for (var i = living.Count - 1; i >= 0; i--)
                    {
                        if (living[i].Held.Count == 0 && now - living[i].IdleSince >= 10)
                        {
                            End(i);
                        }
                    }

                    break;
            }

            Assert.Equal(living.Count, node.Sandboxes.Count);
            Assert.Equal(living.Select(l => l.Id).Order(), node.Sandboxes.List().Select(s => s.Id).Order());
            Assert.All(living, l => Assert.Equal(l.Held.Count > 0 ? 0 : now - l.IdleSince, l.Sandbox.Idle.TotalSeconds, precision: 3));
            Assert.All(ended, id => Assert.Throws<PandoraException>(() => node.Sandboxes.Get(id)));
            Assert.All(ended, id => Assert.True(node.MachineOf(id).IsDisposed));
        }

        await node.Sandboxes.CloseAsync();
        await node.Pool.DisposeAsync();
        Assert.All(node.Booted, b => Assert.True(b.Machine.IsDisposed));

        // A use is refused if the last use failed, the idle timeout is over, and no use that began before then still runs.
        async Task UseAsync(Living used, Func<Living, Task> use)
        {
            if (used.HasFailed && now - used.IdleSince >= 10 && !used.Held.Any(h => h.BeganAt - used.IdleSince < 10))
            {
                Assert.Equal(PandoraError.GuestUnreachable, (await Assert.ThrowsAsync<PandoraException>(() => use(used))).Error);
                return;
            }

            await use(used);
        }

        void End(int index)
        {
            ended.Add(living[index].Id);
            living.RemoveAt(index);
        }
    }

    private sealed class Living(Sandbox sandbox, double now)
    {
        public Sandbox Sandbox => sandbox;

        public string Id => sandbox.Id;

        public double IdleSince { get; set; } = now;

        public bool HasFailed { get; set; }

        public Queue<(Sandbox.Lease Lease, double BeganAt)> Held { get; } = [];

        public void Worked(double at) => (IdleSince, HasFailed) = (at, false);
    }
}
