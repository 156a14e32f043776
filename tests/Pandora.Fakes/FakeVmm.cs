using System.Collections.Concurrent;
using Pandora.Vmm;

namespace Pandora.Fakes;

/// <summary>Runs fake machines, which outlive the node that started them. Starts are let through one by one or at once.</summary>
internal sealed class FakeVmm(bool startsAreFree = true) : IVmm, IDisposable
{
    private readonly ConcurrentDictionary<string, (FakeMachine Machine, VirtualMachineSpec Spec)> _machines = new();
    private readonly SemaphoreSlim _starts = new(startsAreFree ? int.MaxValue : 0);
    private int _attempts;

    public VmmCapabilities Capabilities { get; init; } = FakeServer.Tcg;

    /// <summary>Null: it makes no snapshots.</summary>
    public string? SnapshotCompatibility { get; set; }

    /// <summary>What the next starts fail with; null when they do not.</summary>
    public Exception? StartFailure { get; set; }

    /// <summary>What the next restores fail with; null when they do not.</summary>
    public Exception? RestoreFailure { get; set; }

    /// <summary>What connecting to the agent in a machine's guest gives; null for guests without one.</summary>
    public Func<string, Stream>? Agent { get; init; }

    /// <summary>Called when a node first attaches to a machine of another.</summary>
    public Action? OnAttaching { get; set; }

    /// <summary>Starts that were tried.</summary>
    public int Attempts => Volatile.Read(ref _attempts);

    /// <summary>Machines that were restored, by id.</summary>
    public ConcurrentBag<string> Restored { get; } = [];

    /// <summary>Ids of the machines whose directories an orphans' clean-up left alone, each time.</summary>
    public ConcurrentQueue<IReadOnlySet<string>> CleanUps { get; } = [];

    /// <summary>The newest hold on each machine that was started.</summary>
    public IReadOnlyCollection<FakeMachine> Machines => [.. _machines.Values.Select(m => m.Machine)];

    public void AllowStarts(int count) => _starts.Release(count);

    /// <summary>The newest hold on a machine.</summary>
    public FakeMachine MachineOf(string id) => _machines[id].Machine;

    /// <summary>The machine that runs in a slot; null when none does.</summary>
    /// <param name="namespacePath">The slot's namespace.</param>
    public string? FindIn(string namespacePath) => _machines.Values
        .Where(m => m.Machine.IsRunning && m.Spec.Network.NamespacePath == namespacePath).Select(m => m.Spec.Id).LastOrDefault();

    public async Task<IVirtualMachine> StartAsync(VirtualMachineSpec spec, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _attempts);
        await _starts.WaitAsync(cancellationToken);
        return StartFailure is { } failure ? throw failure : Hold(spec);
    }

    public Task<IVirtualMachine> RestoreAsync(VirtualMachineSpec spec, SnapshotFiles files, CancellationToken cancellationToken)
    {
        if (RestoreFailure is { } failure)
        {
            throw failure;
        }

        if (!File.Exists(files.StatePath) || !File.Exists(files.MemoryPath))
        {
            throw new VmmException("the snapshot is not whole");
        }

        Restored.Add(spec.Id);
        return Task.FromResult<IVirtualMachine>(Hold(spec));
    }

    public async Task SnapshotAsync(IVirtualMachine machine, SnapshotFiles files, CancellationToken cancellationToken)
    {
        await File.WriteAllTextAsync(files.StatePath, machine.Handle.Id, cancellationToken);
        await File.WriteAllTextAsync(files.MemoryPath, "memory", cancellationToken);
    }

    public Task<IVirtualMachine?> AttachAsync(VirtualMachineHandle handle, AgentChannel agent, CancellationToken cancellationToken)
    {
        OnAttaching?.Invoke();
        if (handle.Vmm != Capabilities.Name)
        {
            throw new VmmException($"it runs on {handle.Vmm}, and this server uses {Capabilities.Name}");
        }

        if (!_machines.TryGetValue(handle.Id, out var known) || !known.Machine.IsRunning || known.Machine.Handle != handle)
        {
            return Task.FromResult<IVirtualMachine?>(null);
        }

        var machine = known.Machine.Attach();
        _machines[handle.Id] = (machine, known.Spec);
        return Task.FromResult<IVirtualMachine?>(machine);
    }

    public IReadOnlyList<string> DirectoriesOf(string id) => [];

    public void RemoveDirectories(string id)
    {
        // It makes none.
    }

    // No process can be found and killed for a fake machine, so this stands for that as well.
    public void RemoveOrphans(IReadOnlySet<string> living)
    {
        CleanUps.Enqueue(living);
        _machines.Where(m => !living.Contains(m.Key)).ToList().ForEach(m => m.Value.Machine.Die("an orphan"));
    }

    public void Dispose() => _starts.Dispose();

    private FakeMachine Hold(VirtualMachineSpec spec)
    {
        var machine = new FakeMachine(new VirtualMachineHandle(spec.Id, spec.Directory, 1, 1, Capabilities.Name))
        {
            Agent = Agent is null ? null : () => Agent(spec.Id),
        };
        _machines[spec.Id] = (machine, spec);
        return machine;
    }
}
