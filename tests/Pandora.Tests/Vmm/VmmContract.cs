using Pandora.Vmm;

namespace Pandora.Tests.Vmm;

/// <summary>What the engine counts on of each VMM: the fake, the double of Firecracker and QEMU are held to it alike.</summary>
public abstract class VmmContract
{
    private static readonly AgentChannel Agent = new("pandora.agent", 1024);

    /// <summary>The VMM.</summary>
    protected abstract IVmm Vmm { get; }

    /// <summary>A machine that can be started, with an id and a directory of its own.</summary>
    protected abstract VirtualMachineSpec NewSpec();

    /// <summary>Does what the end of a server does, where its machines see it.</summary>
    protected virtual Task LetGoAsync(IVirtualMachine machine) => Task.CompletedTask;

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
        // Of one that is dead nothing fails.
        await machine.KillAsync();
        Assert.NotNull(await machine.ReadConsoleAsync(default));
    }

    [Fact]
    public async Task Another_server_finds_it_again_and_ends_it()
    {
        // Not disposed: it is let go, and the other holder ends it.
        var machine = await Vmm.StartAsync(NewSpec(), default);
        await LetGoAsync(machine);
        var again = await Vmm.AttachAsync(machine.Handle, Agent, default);
        Assert.NotNull(again);
        Assert.Equal((machine.Handle, true), (again.Handle, again.IsRunning));
        await again.DisposeAsync();
        Assert.NotEqual("", await again.Exited);
        Assert.False(again.IsRunning);
        Assert.Null(await Vmm.AttachAsync(machine.Handle, Agent, default));
    }

    [Fact]
    public async Task What_is_not_there_is_not_found_and_what_is_anothers_is_refused()
    {
        await using var machine = await Vmm.StartAsync(NewSpec(), default);
        Assert.Null(await Vmm.AttachAsync(machine.Handle with { StartTime = machine.Handle.StartTime + 1 }, Agent, default));
        var refused = await Assert.ThrowsAsync<VmmException>(() =>
            Vmm.AttachAsync(machine.Handle with { Vmm = "Another" }, Agent, default));
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
    public async Task What_machines_need_besides_goes_but_for_that_of_the_living()
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
