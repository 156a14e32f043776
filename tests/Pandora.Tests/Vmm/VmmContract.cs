using Pandora.Vmm;

namespace Pandora.Tests.Vmm;

/// <summary>The behaviour that the engine expects of every VMM. The fake, the double of Firecracker and QEMU run the same tests.</summary>
public abstract class VmmContract
{
    private static readonly GuestChannels Channels = new(
        new AgentChannel("pandora.agent", 1000), new AgentChannel("pandora.streams", 1001));

    /// <summary>The VMM under test.</summary>
    protected abstract IVmm Vmm { get; }

    /// <summary>Creates the specification of a machine that can be started, with a new id and directory.</summary>
    protected abstract VirtualMachineSpec NewSpec();

    /// <summary>Detaches from a machine as the end of a server does, where the machine can see that end.</summary>
    protected virtual Task DetachAsync(IVirtualMachine machine) => Task.CompletedTask;

    [Fact]
    public async Task A_machine_runs_from_its_start_until_it_is_killed()
    {
        var spec = NewSpec();
        await using var machine = await Vmm.StartAsync(spec, default);
        Assert.True(machine.IsRunning);
        Assert.False(machine.IsStalled);
        Assert.False(machine.Exited.IsCompleted);
        Assert.Equal((spec.Id, spec.Directory, Vmm.Capabilities.Name), (machine.Handle.Id, machine.Handle.Directory, machine.Handle.Vmm));
        await machine.KillAsync();
        Assert.NotEqual("", await machine.Exited);
        Assert.False(machine.IsRunning);
        // Calls to a dead machine do not fail.
        await machine.KillAsync();
        Assert.NotNull(await machine.ReadConsoleAsync(default));
    }

    [Fact]
    public async Task Another_server_finds_a_machine_again_and_ends_it()
    {
        // The first handle is detached and not disposed. The second handle ends the machine.
        var machine = await Vmm.StartAsync(NewSpec(), default);
        await DetachAsync(machine);
        var again = await Vmm.AttachAsync(machine.Handle, Channels, default);
        Assert.NotNull(again);
        Assert.Equal((machine.Handle, true), (again.Handle, again.IsRunning));
        await again.DisposeAsync();
        Assert.NotEqual("", await again.Exited);
        Assert.False(again.IsRunning);
        Assert.Null(await Vmm.AttachAsync(machine.Handle, Channels, default));
    }

    [Fact]
    public async Task A_missing_machine_is_not_found_and_a_machine_of_another_VMM_is_refused()
    {
        await using var machine = await Vmm.StartAsync(NewSpec(), default);
        Assert.Null(await Vmm.AttachAsync(machine.Handle with { StartTime = machine.Handle.StartTime + 1 }, Channels, default));
        var refused = await Assert.ThrowsAsync<VmmException>(() =>
            Vmm.AttachAsync(machine.Handle with { Vmm = "Another" }, Channels, default));
        Assert.Contains("it runs on Another", refused.Message);
        Assert.True(machine.IsRunning);
    }

    [Fact]
    public async Task A_start_that_is_cancelled_leaves_no_machine()
    {
        var spec = NewSpec();
        using var cancelled = new CancellationTokenSource();
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Vmm.StartAsync(spec, cancelled.Token));
        Assert.All(Vmm.DirectoriesOf(spec.Id), d => Assert.False(Directory.Exists(d), d));
    }

    [Fact]
    public async Task Directories_of_machines_are_removed_except_those_of_living_ones()
    {
        var spec = NewSpec();
        await using var machine = await Vmm.StartAsync(spec, default);
        Vmm.RemoveOrphans(new HashSet<string> { spec.Id });
        Assert.True(machine.IsRunning);
        Assert.All(Vmm.DirectoriesOf(spec.Id), d => Assert.True(Directory.Exists(d), d));
        await machine.KillAsync();
        await machine.Exited;
        Vmm.RemoveOrphans(new HashSet<string>());
        Assert.All(Vmm.DirectoriesOf(spec.Id), d => Assert.False(Directory.Exists(d), d));
        Vmm.RemoveDirectories(spec.Id);
    }
}
