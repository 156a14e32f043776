using Pandora.Vmm;

namespace Pandora.Fakes;

internal sealed class FakeMachine(string id) : IVirtualMachine
{
    private readonly TaskCompletionSource<string> _exited = new();

    public VirtualMachineHandle Handle { get; } = new(id, "", 1, 1, "Fake");

    public Task<string> Exited => _exited.Task;

    public bool IsRunning => !_exited.Task.IsCompleted;

    public bool IsDisposed { get; private set; }

    public Task<string> ReadConsoleAsync(CancellationToken cancellationToken) => Task.FromResult("");

    public void Die(string reason) => _exited.TrySetResult(reason);

    public Task KillAsync()
    {
        Die("killed");
        return Task.CompletedTask;
    }

    public async ValueTask DisposeAsync()
    {
        IsDisposed = true;
        await KillAsync();
    }
}
