using System.Text.Json.Nodes;
using Pandora.Vmm.Linux;

namespace Pandora.Vmm.Qemu;

internal sealed class QemuVirtualMachine(VirtualMachineHandle handle, ProcessHandle process, TimeProvider time) : IVirtualMachine
{
    private static readonly TimeSpan ControlTimeout = TimeSpan.FromSeconds(10);
    private readonly TaskCompletionSource<string> _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private QmpClient? _qmp;
    private string? _lastConsole;
    private int _killed;

    public VirtualMachineHandle Handle => handle;

    public Task<string> Exited => _exited.Task;

    public bool IsRunning => !_exited.Task.IsCompleted && !process.HasExited;

    /// <summary>Connects to QEMU's control socket, or says why QEMU ended before it had one.</summary>
    public async Task ConnectAsync(CancellationToken cancellationToken)
    {
        _ = WatchProcessAsync();
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(ControlTimeout);
        var connecting = QmpClient.ConnectAsync(QemuVmm.SocketPath(handle.Directory), OnEvent, time, limit.Token);
        if (await Task.WhenAny(connecting, _exited.Task) != connecting)
        {
            await limit.CancelAsync();
            throw new VmmException(await _exited.Task);
        }

        try
        {
            _qmp = await connecting;
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new VmmException($"QEMU did not open its control socket within {ControlTimeout.TotalSeconds:0} s: {VmmProcess.ReadLog(handle.Directory)}");
        }
        catch (IOException e)
        {
            throw new VmmException($"QEMU's control socket broke at once: {VmmProcess.ReadLog(handle.Directory)}", e);
        }
    }

    public async Task<string> ReadConsoleAsync(CancellationToken cancellationToken)
    {
        if (_lastConsole is not null || _qmp is null || process.Exited.IsCompleted)
        {
            return _lastConsole ?? "";
        }

        try
        {
            var arguments = new JsonObject { ["device"] = QemuCommandLine.ConsoleDevice, ["size"] = QemuCommandLine.ConsoleBytes };
            var answer = await _qmp.ExecuteAsync("ringbuf-read", arguments, cancellationToken).WaitAsync(TimeSpan.FromSeconds(2), time, cancellationToken);
            return answer?.GetValue<string>() ?? "";
        }
        catch (Exception e) when (e is VmmException or TimeoutException)
        {
            return "";
        }
    }

    public async Task KillAsync()
    {
        Interlocked.Exchange(ref _killed, 1);
        process.Kill();
        await process.Exited;
    }

    public async ValueTask DisposeAsync()
    {
        await KillAsync();
        await ReleaseAsync();
    }

    /// <summary>Lets go of it without ending it.</summary>
    public async Task ReleaseAsync()
    {
        if (_qmp is not null)
        {
            await _qmp.DisposeAsync();
        }

        process.Dispose();
    }

    /// <summary>Whether the guest runs: nobody heard it stop while there was no server.</summary>
    public async Task<bool> IsGuestRunningAsync(CancellationToken cancellationToken) =>
        (await _qmp!.ExecuteAsync("query-status", cancellationToken: cancellationToken))?["running"]?.GetValue<bool>() ?? false;

    private async Task WatchProcessAsync()
    {
        await process.Exited;
        _exited.TrySetResult(_killed == 1
            ? "the VMM was killed by Pandora"
            : $"the VMM's process ended: {VmmProcess.ReadLog(handle.Directory)}");
    }

    private void OnEvent(string name, JsonNode? data)
    {
        if (name is "SHUTDOWN" or "GUEST_PANICKED")
        {
            var reason = data?["reason"]?.GetValue<string>();
            _ = StopAsync(reason switch
            {
                "guest-shutdown" => "the guest powered itself off",
                "guest-reset" => "the guest rebooted itself or its kernel panicked",
                _ => $"the guest stopped ({reason ?? name})",
            });
        }
    }

    // The machine is paused now: its last words can be read before it goes.
    private async Task StopAsync(string reason)
    {
        _lastConsole = await ReadConsoleAsync(CancellationToken.None);
        _exited.TrySetResult(reason);
        process.Kill();
    }
}
