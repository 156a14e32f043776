using Pandora.Engine;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Node;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;
using Pandora.Vmm;

namespace Pandora.Tests.Node;

/// <summary>The real node from its opening to its end: how it starts, keeps, adopts and cleans up microVMs.</summary>
public sealed class NodeTests
{
    [Fact]
    public async Task MicroVMs_are_restored_once_there_is_a_snapshot()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1, MaxSandboxes = 5 }, hasAgents: true, canSnapshot: true);
        await UntilRestoredAsync(node, 1);
        Assert.NotEmpty(Directory.GetDirectories(node.Options.SnapshotDir));
    }

    [Fact]
    public async Task A_microVM_that_cannot_be_restored_is_booted_and_a_snapshot_that_fails_twice_is_dropped()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1, MaxSandboxes = 9 }, hasAgents: true, canSnapshot: true);
        await UntilRestoredAsync(node, 1);
        node.Vmm.RestoreFailure = new VmmException("a test damaged it");
        var booted = node.BootAttempts;
        for (var i = 0; i < 3; i++)
        {
            await node.Sandboxes.CreateAsync(new SandboxRequest(), default);
            await FakeNode.UntilAsync(() => node.Pool is { WarmCount: 1, BootingCount: 0 });
        }

        Assert.Equal(booted + 3, node.BootAttempts);
        Assert.Empty(Directory.GetDirectories(node.Options.SnapshotDir));
        // The snapshot was dropped, so no microVM is restored, although restoring would work again.
        node.Vmm.RestoreFailure = null;
        var restored = node.Vmm.Restored.Count;
        await node.Sandboxes.CreateAsync(new SandboxRequest(), default);
        await FakeNode.UntilAsync(() => node.Pool is { WarmCount: 1, BootingCount: 0 });
        Assert.Equal((booted + 4, restored), (node.BootAttempts, node.Vmm.Restored.Count));
    }

    [Fact]
    public async Task A_failure_that_boots_share_is_not_blamed_on_the_snapshot()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1, MaxSandboxes = 9 }, hasAgents: true, canSnapshot: true);
        await UntilRestoredAsync(node, 1);
        (node.Vmm.RestoreFailure, node.BootFailure) = (new VmmException("the host is broken"), new VmmException("the host is broken"));
        await node.Sandboxes.CreateAsync(new SandboxRequest(), default);
        for (var i = 0; i < 3; i++)
        {
            var attempts = node.BootAttempts;
            await FakeNode.UntilAsync(() =>
            {
                node.Time.Advance(TimeSpan.FromSeconds(node.Pool.BootingCount == 0 ? 0.2 : 0));
                return node.BootAttempts > attempts && node.Pool.BootingCount == 0;
            });
        }

        Assert.NotEmpty(Directory.GetDirectories(node.Options.SnapshotDir));
        (node.Vmm.RestoreFailure, node.BootFailure) = (null, null);
        await FakeNode.UntilAsync(() =>
        {
            node.Time.Advance(TimeSpan.FromSeconds(node.Pool.BootingCount == 0 ? 0.2 : 0));
            return node.Pool.WarmCount == 1;
        });
        Assert.Equal(2, node.Vmm.Restored.Count);
    }

    [Fact]
    public async Task A_start_that_fails_cleans_up_everything_that_it_acquired()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0, AcquireTimeout = 5 })
        {
            BootFailure = new VmmException("no machine today"),
        };
        await using var clock = node.RunClock();
        var refused = await Assert.ThrowsAsync<PandoraException>(() => node.Sandboxes.CreateAsync(new SandboxRequest(), default));
        Assert.Equal(PandoraError.PoolEmpty, refused.Error);
        await FakeNode.UntilAsync(() => node.Pool.BootingCount == 0);
        Assert.Empty(node.Network.Held);
        Assert.Empty(Directory.GetDirectories(RunDirectory(node)));
        Assert.Empty(Directory.GetFiles(Path.Combine(node.Options.DataDir, "disks")));
    }

    [Fact]
    public async Task A_detach_keeps_every_microVM_and_a_stop_cleans_up_everything()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 });
        var id = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox.Id;
        await FakeNode.UntilAsync(() => node.Pool is { WarmCount: 1, BootingCount: 0 });
        var directory = RunDirectory(node);
        await node.StopAsync(keep: true);
        Assert.Equal((1, 0), node.Network.Closed);
        Assert.Equal(2, node.Network.Held.Count);
        Assert.All(node.Booted, b => Assert.True(b.Machine.IsRunning));
        Assert.Equal(2, Directory.GetDirectories(directory).Length);

        await node.OpenAsync(mustRecover: true);
        Assert.Equal(id, node.Sandboxes.Get(id).Id);
        await node.StopAsync(keep: false);
        Assert.Equal((1, 1), node.Network.Closed);
        Assert.Empty(node.Network.Held);
        Assert.All(node.Booted, b => Assert.False(b.Machine.IsRunning));
        Assert.False(Directory.Exists(directory));
        await node.OpenAsync(mustRecover: true);
    }

    [Fact]
    public async Task A_stopped_instance_is_cleaned_up_without_a_server_and_a_running_one_is_not()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 });
        await node.Sandboxes.CreateAsync(new SandboxRequest(), default);
        await FakeNode.UntilAsync(() => node.Pool is { WarmCount: 1, BootingCount: 0 });
        Task<int> CleanUpAsync() => PandoraEngine.CleanUpStoppedInstanceAsync(
            node.Options, node.Vmm.RemoveOrphans, node.Time, CancellationToken.None, node.Host);
        await Assert.ThrowsAsync<StartupException>(CleanUpAsync);
        Assert.Equal(2, node.Network.Held.Count);

        await node.StopAsync(keep: true);
        Assert.Equal(2, await CleanUpAsync());
        Assert.Empty(node.Network.Held);
        Assert.All(node.Booted, b => Assert.False(b.Machine.IsRunning));
        Assert.Empty(Directory.GetFiles(Path.Combine(node.Options.DataDir, "disks")));
        Assert.Equal(0, await CleanUpAsync());
        await node.OpenAsync(mustRecover: true);
    }

    [Fact]
    public async Task Orphans_are_removed_before_new_resources_are_made_and_undecided_microVMs_stay()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0, MaxSandboxes = 4 });
        var kept = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox.Id;
        var damaged = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox.Id;
        var refused = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox;
        var disks = Path.Combine(node.Options.DataDir, "disks");
        await node.RestartAsync(isKilled: true, () =>
        {
            File.WriteAllText(node.RecordOf(damaged), "{");
            File.WriteAllText(Path.Combine(disks, "orphan.ext4"), "");
            node.Network.Refused[refused.Status.Slot] = "the rules of its network namespace could not be set";
        });
        Assert.Equal([kept], node.Vmm.CleanUps.Last());
        Assert.Equal([$"{kept}.ext4"], Directory.GetFiles(disks).Select(Path.GetFileName));
        Assert.Equal([kept], node.Network.Held.Values);
        Assert.Equal([kept], node.Sandboxes.List().Select(s => s.Id));
        var gone = Assert.Throws<PandoraException>(() => node.Sandboxes.Get(refused.Id));
        Assert.Equal(PandoraError.SandboxGone, gone.Error);
        Assert.Contains("could not be set", gone.Message);
    }

    [Fact]
    public async Task A_sandbox_id_begins_with_the_instance_id_and_older_ids_stay_valid()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0 });
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox;
        var instance = node.Engine.Status.Instance;
        Assert.Matches($"^{instance}[a-z0-9]{{19}}$", sandbox.Id);
        var slot = sandbox.Status.Slot + 1;
        await node.StopAsync(keep: true);

        // A record as the version before this one wrote it.
        const string Old = "zzzzzzzzzzzzzzzzzzzzzzzz";
        var directory = Directory.CreateDirectory(Path.Combine(node.Options.RunDir, instance, Old)).FullName;
        await node.Vmm.StartAsync(
            new VirtualMachineSpec
            {
                Id = Old,
                Directory = directory,
                KernelPath = "",
                InitrdPath = "",
                Drives = [],
                Uid = 0,
                Channels = new GuestChannels(new AgentChannel("", 0), Streams: null),
                Network = new NetworkSpec($"/run/netns/pnd-{instance}-{slot}", "tap0", ""),
            }, default);
        await File.WriteAllTextAsync(Path.Combine(directory, "record.json"), $$$"""
            {"version":2,"boot_id":"{{{MicroVmRecord.HostBootId}}}",
            "id":"{{{Old}}}","instance":"{{{instance}}}","template":"default","slot":{{{slot}}},
            "address":"10.200.0.{{{(slot * 4) + 2}}}","network":"10.200.0.0/16","uid":1,"host_key":"AAAA",
            "vmm":{"id":"{{{Old}}}","directory":"{{{directory}}}","pid":1,"start_time":1,"vmm":"QEMU"},"is_ready":true,"has_agent":false,
            "resources":[{"kind":"Slot","name":"{{{slot}}}"}],
            "claim":{"idle_timeout":60,"egress":"None","metadata":{"a":"b"},"created_at":"2026-11-26T00:00:00+00:00"}}
            """);
        await node.OpenAsync(mustRecover: true);
        var status = node.Sandboxes.Get(Old).Status;
        Assert.Equal((SandboxState.Running, Egress.None, "b", TimeSpan.FromSeconds(60)),
            (status.State, status.Egress.Default, status.Metadata["a"], status.Lifetime.Idle));
        Assert.Equal(0, (await node.ExecAsync(Old, "exit 0")).ExitCode);
        Assert.Equal(2, node.Sandboxes.Count);
    }

    [Fact]
    public async Task A_node_opens_serves_and_reaps_by_itself()
    {
        await using var node = new FakeNode(hasWatches: true);
        await FakeNode.UntilAsync(() => node.Engine.Status is { IsReady: true, IsProtected: true, IsRecovering: false });
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(IdleTimeout: 10), default)).Sandbox;
        Assert.Equal(0, (await node.ExecAsync(sandbox.Id, "exit 0")).ExitCode);
        node.Network.Missing = "the table is gone";
        Assert.Equal((false, false), (node.Engine.Status.IsReady, node.Engine.Status.IsProtected));
        Assert.Contains("the table is gone", node.Engine.Status.Notes);
        // The reaper that the node started ends the sandbox.
        node.Time.Advance(TimeSpan.FromSeconds(11));
        await FakeNode.UntilAsync(() => sandbox.End is { Reason: EndReason.Idle });
    }

    private static string RunDirectory(FakeNode node) => Path.Combine(node.Options.RunDir, node.Engine.Status.Instance);

    private static async Task UntilRestoredAsync(FakeNode node, int count)
    {
        // The first microVM is booted while the snapshot is made.
        await FakeNode.UntilAsync(() => Directory.Exists(node.Options.SnapshotDir)
            && Directory.GetFiles(node.Options.SnapshotDir, "snapshot.json", SearchOption.AllDirectories).Length > 0
            && node.Pool is { WarmCount: 1, BootingCount: 0 });
        while (node.Vmm.Restored.Count < count)
        {
            await node.Sandboxes.CreateAsync(new SandboxRequest(), default);
            await FakeNode.UntilAsync(() => node.Pool is { WarmCount: 1, BootingCount: 0 });
        }
    }
}
