using System.Collections.Concurrent;
using Pandora.Vmm;

namespace Pandora.Fakes;

/// <summary>Runs fake machines, which outlive the node that started them. Starts run freely, or a test allows them one by one.</summary>
internal sealed class FakeVmm(bool startsAreFree = true) : IVmm, IDisposable
{
    private readonly ConcurrentDictionary<string, (FakeMachine Machine, VirtualMachineSpec Spec)> _machines = new();
    private readonly SemaphoreSlim _starts = new(startsAreFree ? int.MaxValue : 0);
    private int _attempts;

    public VmmCapabilities Capabilities { get; init; } = FakeServer.Tcg;

    /// <summary>Key of compatible snapshots; null when the VMM makes none.</summary>
    public string? SnapshotCompatibility { get; set; }

    /// <summary>Time that a start takes, in real time.</summary>
    public TimeSpan StartTime { get; set; }

    /// <summary>Error of every start; null when starts work.</summary>
    public Exception? StartFailure { get; set; }

    /// <summary>Error of every restore; null when restores work.</summary>
    public Exception? RestoreFailure { get; set; }

    /// <summary>Opens a connection to the agent in a machine's guest, by machine id; null for guests without an agent.</summary>
    public Func<string, Stream>? Agent { get; init; }

    /// <summary>Called when a node attaches to a machine of another node.</summary>
    public Action? OnAttaching { get; set; }

    /// <summary>Number of starts, including those that failed.</summary>
    public int Attempts => Volatile.Read(ref _attempts);

    /// <summary>Ids of the machines that were restored.</summary>
    public ConcurrentBag<string> Restored { get; } = [];

    /// <summary>For each removal of orphans, the ids of the machines that it kept.</summary>
    public ConcurrentQueue<IReadOnlySet<string>> CleanUps { get; } = [];

    /// <summary>The newest handle of each machine that was started.</summary>
    public IReadOnlyCollection<FakeMachine> Machines => [.. _machines.Values.Select(m => m.Machine)];

    public void AllowStarts(int count) => _starts.Release(count);

    /// <summary>The newest handle of a machine.</summary>
    public FakeMachine MachineOf(string id) => _machines[id].Machine;

    /// <summary>What a machine was started with.</summary>
    public VirtualMachineSpec SpecOf(string id) => _machines[id].Spec;

    /// <summary>Id of the machine that runs in a slot; null when none does.</summary>
    /// <param name="namespacePath">The slot's namespace.</param>
    public string? FindIn(string namespacePath) => _machines.Values
        .Where(m => m.Machine.IsRunning && m.Spec.Network.NamespacePath == namespacePath).Select(m => m.Spec.Id).LastOrDefault();

    public async Task<IVirtualMachine> StartAsync(VirtualMachineSpec spec, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _attempts);
        await _starts.WaitAsync(cancellationToken);
        await Task.Delay(StartTime, TimeProvider.System, cancellationToken);
        return StartFailure is { } failure ? throw failure : CreateMachine(spec);
    }

    public Task<IVirtualMachine> RestoreAsync(VirtualMachineSpec spec, SnapshotFiles files, CancellationToken cancellationToken)
    {
        if (RestoreFailure is { } failure)
        {
            throw failure;
        }

        if (!File.Exists(files.StatePath) || !File.Exists(files.MemoryPath))
        {
            throw new VmmException("the snapshot is incomplete");
        }

        Restored.Add(spec.Id);
        return Task.FromResult<IVirtualMachine>(CreateMachine(spec));
    }

    public async Task SnapshotAsync(IVirtualMachine machine, SnapshotFiles files, CancellationToken cancellationToken)
    {
        await File.WriteAllTextAsync(files.StatePath, machine.Handle.Id, cancellationToken);
        await File.WriteAllTextAsync(files.MemoryPath, "memory", cancellationToken);
    }

    public Task<IVirtualMachine?> AttachAsync(VirtualMachineHandle handle, GuestChannels channels, CancellationToken cancellationToken)
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
        // The fake makes no directories.
    }

    // A real server also kills the process of an orphan. A fake machine has none, so it ends here.
    public void RemoveOrphans(IReadOnlySet<string> living)
    {
        CleanUps.Enqueue(living);
        _machines.Where(m => !living.Contains(m.Key)).ToList().ForEach(m => m.Value.Machine.Die("an orphan"));
    }

    public void Dispose() => _starts.Dispose();

    private FakeMachine CreateMachine(VirtualMachineSpec spec)
    {
        var machine = new FakeMachine(new VirtualMachineHandle(spec.Id, spec.Directory, 1, 1, Capabilities.Name))
        {
            Agent = Agent is null ? null : () => Agent(spec.Id),
        };
        _machines[spec.Id] = (machine, spec);
        return machine;
    }
}
