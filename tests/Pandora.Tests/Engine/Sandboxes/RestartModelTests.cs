using CsCheck;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

/// <summary>
/// Random histories of a node, compared with a model of which sandboxes must live. The server is killed and replaced, machines die and
/// fall silent, boots fail, and the clock jumps.
/// </summary>
public sealed class RestartModelTests
{
    private enum Step
    {
        Create, CreateAgain, Exec, Delete, Die, Advance, Kill, KillAndDie, KillAndSilence, KillAndDamage, Keep, BootsFail, ClockJumps,
    }

    [Fact]
    public async Task In_any_history_every_sandbox_lives_or_has_ended_with_a_reason_and_every_machine_has_an_owner()
    {
        var step = Gen.Select(Gen.Enum<Step>(), Gen.Int[0, 9]);
        await step.Array[1, 40].SampleAsync(RunAsync, iter: 100, threads: 1);
    }

    private static async Task RunAsync((Step Step, int Which)[] history)
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 2, MaxSandboxes = 4, IdleTimeout = 10, MaxLifetime = 0 });
        var living = new List<(string Id, string Key, double IdleSince)>();
        var gone = new HashSet<string>();
        var now = 0.0;
        var number = 0;
        (string Id, string Key, double IdleSince) At(int which) => living[which % living.Count];
        void End(string id)
        {
            living.RemoveAll(l => l.Id == id);
            gone.Add(id);
        }

        async Task RestartAsync(bool isKilled, Action? meanwhile = null)
        {
            await node.RestartAsync(isKilled, meanwhile);
            // A restart restarts the idle clocks.
            for (var i = 0; i < living.Count; i++)
            {
                living[i] = living[i] with { IdleSince = now };
            }
        }

        foreach (var (step, which) in history)
        {
            if (node.BootFailure is not null && step != Step.BootsFail)
            {
                // After a failed boot the pool pauses. So that a claim need not wait for the fake clock, boots fail until the next step,
                // which starts another server.
                node.BootFailure = null;
                await RestartAsync(isKilled: false);
            }

            switch (step)
            {
                case Step.Create when living.Count < 4:
                    await FakeNode.UntilAsync(() => node.Pool.WarmCount > 0);
                    var key = $"key{number++}";
                    living.Add(((await node.Sandboxes.CreateAsync(new SandboxRequest(IdempotencyKey: key), default)).Sandbox.Id, key, now));
                    break;
                case Step.CreateAgain when living.Count > 0:
                    var again = await node.Sandboxes.CreateAsync(new SandboxRequest(IdempotencyKey: At(which).Key), default);
                    Assert.Equal((At(which).Id, true), (again.Sandbox.Id, again.IsReplayed));
                    break;
                case Step.Exec when living.Count > 0:
                    var used = which % living.Count;
                    Assert.Equal(which, (await node.ExecAsync(living[used].Id, $"exit {which}")).ExitCode);
                    living[used] = living[used] with { IdleSince = now };
                    break;
                case Step.Delete when living.Count > 0:
                    var deleted = At(which).Id;
                    await node.Sandboxes.DeleteAsync(deleted, complete: which % 2 == 0);
                    End(deleted);
                    break;
                case Step.Die when living.Count > 0:
                    var dying = At(which).Id;
                    node.MachineOf(dying).Die("a test said so");
                    End(dying);
                    await FakeNode.UntilAsync(() => node.Sandboxes.Count == living.Count);
                    break;
                case Step.Advance:
                    now += which;
                    node.Time.Advance(TimeSpan.FromSeconds(which));
                    await node.Sandboxes.ReapAsync();
                    living.Where(l => now - l.IdleSince >= 10).ToList().ForEach(l => End(l.Id));
                    break;
                case Step.Kill:
                    await RestartAsync(isKilled: true);
                    break;
                case Step.KillAndDie when living.Count > 0:
                    var died = At(which).Id;
                    await RestartAsync(isKilled: true, () => node.MachineOf(died).Die("without a server"));
                    End(died);
                    break;
                case Step.KillAndSilence when living.Count > 0:
                    var silent = At(which).Id;
                    await RestartAsync(isKilled: true, () => node.Silent.Add(silent));
                    End(silent);
                    break;
                case Step.KillAndDamage when living.Count > 0:
                    var damaged = At(which).Id;
                    await RestartAsync(
                        isKilled: true, () => File.WriteAllText(node.RecordOf(damaged), which % 2 == 0 ? "{" : """{"version":99}"""));
                    End(damaged);
                    break;
                case Step.Keep:
                    await RestartAsync(isKilled: false);
                    break;
                case Step.BootsFail:
                    node.BootFailure = new InvalidOperationException("a test said so");
                    break;
                case Step.ClockJumps:
                    // Only the wall clock jumps. No sandbox may end earlier or live longer because of it.
                    node.Time.Jump(TimeSpan.FromHours(which - 5));
                    await node.Sandboxes.ReapAsync();
                    break;
            }

            Assert.Equal(
                living.Select(l => l.Id).Order(StringComparer.Ordinal),
                node.Sandboxes.List().Select(s => s.Id).Order(StringComparer.Ordinal));
            Assert.Equal(living.Count, node.Sandboxes.Count);
            Assert.All(living, l => Assert.True(node.MachineOf(l.Id).IsRunning));
            Assert.Equal(living.Count, node.Sandboxes.List().Select(s => s.Slot).Distinct().Count());
            Assert.All(
                gone,
                id =>
                    Assert.True(
                        Assert.Throws<PandoraException>(() => node.Sandboxes.Get(id)).Error
                            is PandoraError.SandboxGone
                                or PandoraError.SandboxNotFound));
        }

        // Every running machine is that of a sandbox or warm.
        await FakeNode.UntilAsync(() =>
            node.Booted.Where(b => b.Machine.IsRunning).Select(b => b.Id).Distinct().Count() == living.Count + node.Pool.WarmCount);
    }
}
