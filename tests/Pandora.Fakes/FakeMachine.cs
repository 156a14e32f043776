using Pandora.Vmm;

namespace Pandora.Fakes;

/// <summary>A server's handle of a fake virtual machine. The machine outlives the handle, and another server can attach to it.</summary>
internal sealed class FakeMachine : IVirtualMachine
{
    private readonly Vm _vm;
    private readonly TaskCompletionSource<string> _exited = new();
    private volatile bool _isDetached;

    public FakeMachine(VirtualMachineHandle handle)
        : this(new Vm(handle))
    {
    }

    public FakeMachine(string id)
        : this(new VirtualMachineHandle(id, "", 1, 1, "Fake"))
    {
    }

    private FakeMachine(Vm vm)
    {
        _vm = vm;
        vm.Died.Task.ContinueWith(
            t =>
            {
                if (!_isDetached)
                {
                    _exited.TrySetResult(t.Result);
                }
            }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
    }

    public VirtualMachineHandle Handle => _vm.Handle;

    public Task<string> Exited => _exited.Task;

    public bool IsRunning => !_vm.Died.Task.IsCompleted;

    public bool IsDisposed => _vm.IsDisposed;

    public bool IsStalled { get; set; }

    /// <summary>What continuing a stalled machine does; by default the machine runs on.</summary>
    public Action<FakeMachine> Continues { get; set; } = m => m.IsStalled = false;

    public Task ContinueAsync(CancellationToken cancellationToken)
    {
        Continues(this);
        return Task.CompletedTask;
    }

    /// <summary>Opens a connection to the agent in the guest; null for a machine without the agent's device.</summary>
    public Func<Stream>? Agent { get; init; }

    public Task<string> ReadConsoleAsync(CancellationToken cancellationToken) => Task.FromResult("");

    public bool HasManyConnections => false;

    public Task<Stream> ConnectStreamsAsync(CancellationToken cancellationToken) =>
        throw new VmmException("a fake machine has no streams");

    public Task<Stream> ConnectAgentAsync(CancellationToken cancellationToken) =>
        Task.FromResult(Agent?.Invoke() ?? throw new VmmException("it has no device for the agent"));

    public void Die(string reason) => _vm.Died.TrySetResult(reason);

    /// <summary>Detaches the handle, as when its server was killed: it reports nothing and has no effect on the machine.</summary>
    public void Detach() => _isDetached = true;

    /// <summary>Creates another server's handle of the same machine.</summary>
    public FakeMachine Attach() => new(_vm) { Agent = Agent };

    public Task KillAsync()
    {
        if (!_isDetached)
        {
            Die("killed");
        }

        return Task.CompletedTask;
    }

    public async ValueTask DisposeAsync()
    {
        await KillAsync();
        _vm.IsDisposed |= !_isDetached;
    }

    private sealed class Vm(VirtualMachineHandle handle)
    {
        public VirtualMachineHandle Handle => handle;

        public TaskCompletionSource<string> Died { get; } = new();

        public bool IsDisposed { get; set; }
    }
}
