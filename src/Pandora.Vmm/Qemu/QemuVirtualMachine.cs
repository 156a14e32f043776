using System.Diagnostics.CodeAnalysis;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using Pandora.Linux;
using Pandora.Vmm.Host;

namespace Pandora.Vmm.Qemu;

internal sealed class QemuVirtualMachine(VirtualMachineHandle handle, ProcessHandle process, TimeProvider time) : IVirtualMachine
{
    private static readonly TimeSpan ControlTimeout = TimeSpan.FromSeconds(10), MigrationPoll = TimeSpan.FromMilliseconds(2);
    private readonly TaskCompletionSource<string> _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private QmpClient? _qmp;
    private Socket? _agent, _streams;
    private string? _lastConsole;
    private int _killed;
    private volatile bool _isStalled;

    public VirtualMachineHandle Handle => handle;

    public Task<string> Exited => _exited.Task;

    public bool IsRunning => !_exited.Task.IsCompleted && !process.HasExited;

    /// <inheritdoc/>
    public bool IsStalled => _isStalled;

    /// <inheritdoc/>
    public async Task ContinueAsync(CancellationToken cancellationToken)
    {
        // Cleared before the command: the next error can come at once, and its event sets this again.
        _isStalled = false;
        try
        {
            await _qmp!.ExecuteAsync("cont", cancellationToken: cancellationToken);
        }
        catch
        {
            _isStalled = true;
            throw;
        }
    }

    /// <summary>Connects to QEMU's control socket and to its socket for the agent.</summary>
    /// <exception cref="VmmException">QEMU ended, or did not open its control socket in time; the message says why.</exception>
    [SuppressMessage("Reliability", "CA2000", Justification = "DetachAsync disposes the client, or CloseAsync if the process has ended")]
    public async Task ConnectAsync(CancellationToken cancellationToken)
    {
        _ = WatchProcessAsync();
        using var clock = new CancellationTokenSource(ControlTimeout, time);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, clock.Token);
        var connecting = QmpClient.ConnectAsync(QemuVmm.SocketPath(handle.Directory), OnEvent, time, limit.Token);
        if (await Task.WhenAny(connecting, _exited.Task) != connecting)
        {
            await limit.CancelAsync();
            await CloseAsync(connecting);
            throw new VmmException(await _exited.Task);
        }

        try
        {
            _qmp = await connecting;
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new VmmException(
                $"QEMU did not open its control socket within {ControlTimeout.TotalSeconds:0} s: {VmmProcess.ReadLog(handle.Directory)}");
        }
        catch (IOException e)
        {
            throw new VmmException($"QEMU's control socket broke at once: {VmmProcess.ReadLog(handle.Directory)}", e);
        }

        _agent = await ConnectPortAsync(QemuVmm.AgentSocketPath(handle.Directory), cancellationToken);
        _streams = await ConnectPortAsync(QemuVmm.StreamsSocketPath(handle.Directory), cancellationToken);
    }

    /// <summary>Pauses the machine and writes its state without its memory to a file.</summary>
    public async Task SaveStateAsync(string statePath, CancellationToken cancellationToken)
    {
        await _qmp!.ExecuteAsync("stop", cancellationToken: cancellationToken);
        await IgnoreMemoryAsync(cancellationToken);
        using var state = File.OpenHandle(statePath, FileMode.CreateNew, FileAccess.Write);
        await _qmp.PassFileAsync("state", state, cancellationToken);
        await _qmp.ExecuteAsync("migrate", new JsonObject { ["uri"] = "fd:state" }, cancellationToken);
        while (
            await _qmp.ExecuteAsync("query-migrate", cancellationToken: cancellationToken) is var progress
            && progress?["status"]?.GetValue<string>() is not "completed")
        {
            if (progress?["status"]?.GetValue<string>() is "failed" or "cancelled")
            {
                var why = progress["error-desc"]?.GetValue<string>() ?? VmmProcess.ReadLog(handle.Directory);
                throw new VmmException($"QEMU could not write the machine's state: {why}");
            }

            await Task.Delay(MigrationPoll, time, cancellationToken);
        }
    }

    /// <summary>Reads the state that <see cref="SaveStateAsync"/> wrote, and resumes the machine.</summary>
    public async Task LoadStateAsync(CancellationToken cancellationToken)
    {
        try
        {
            await IgnoreMemoryAsync(cancellationToken);
            await _qmp!.ExecuteAsync(
                "migrate-incoming", new JsonObject { ["uri"] = $"fd:{VmmProcess.InputDescriptor}" }, cancellationToken);
            while (
                (await _qmp.ExecuteAsync("query-status", cancellationToken: cancellationToken))?["status"]?.GetValue<string>()
                == "inmigrate")
            {
                await Task.Delay(MigrationPoll, time, cancellationToken);
            }

            await _qmp.ExecuteAsync("cont", cancellationToken: cancellationToken);
        }
        catch (VmmException e) when (process.HasExited || e.Message.Contains("closed", StringComparison.Ordinal))
        {
            // QEMU ends when it cannot read the state.
            throw new VmmException($"QEMU could not resume from the snapshot: {VmmProcess.ReadLog(handle.Directory)}", e);
        }
    }

    /// <inheritdoc/>
    public Task<Stream> ConnectAgentAsync(CancellationToken cancellationToken) => _agent is { } agent
        ? Task.FromResult<Stream>(new NetworkStream(agent, ownsSocket: false))
        : throw new VmmException("the microVM was started without a port for the agent");

    /// <inheritdoc/>
    public bool HasManyConnections => false;

    /// <inheritdoc/>
    public Task<Stream> ConnectStreamsAsync(CancellationToken cancellationToken) => _streams is { } streams
        ? Task.FromResult<Stream>(new NetworkStream(streams, ownsSocket: false))
        : throw new VmmException("the microVM was started without a port for the agent's streams");

    public async Task<string> ReadConsoleAsync(CancellationToken cancellationToken)
    {
        if (_lastConsole is not null || _qmp is null || process.Exited.IsCompleted)
        {
            return _lastConsole ?? "";
        }

        try
        {
            var arguments = new JsonObject { ["device"] = QemuCommandLine.ConsoleDevice, ["size"] = QemuCommandLine.ConsoleBytes };
            var answer = await _qmp.ExecuteAsync("ringbuf-read", arguments, cancellationToken)
                .WaitAsync(TimeSpan.FromSeconds(2), time, cancellationToken);
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
        await DetachAsync();
    }

    /// <summary>Closes the connections to the machine without ending it.</summary>
    public async Task DetachAsync()
    {
        _agent?.Dispose();
        _streams?.Dispose();
        if (_qmp is not null)
        {
            await _qmp.DisposeAsync();
        }

        process.Dispose();
    }

    /// <summary>
    /// Whether the guest runs, or waits for room on the host's disk. It may have stopped while no server received QEMU's events.
    /// </summary>
    public async Task<bool> IsGuestAliveAsync(CancellationToken cancellationToken)
    {
        var answer = await _qmp!.ExecuteAsync("query-status", cancellationToken: cancellationToken);
        _isStalled |= answer?["status"]?.GetValue<string>() == "io-error";
        return _isStalled || (answer?["running"]?.GetValue<bool>() ?? false);
    }

    // Closes a connection that was made in the moment in which the process ended.
    private static async Task CloseAsync(Task<QmpClient> connecting)
    {
        try
        {
            await using var qmp = await connecting;
        }
        catch (Exception)
        {
            // There is no connection. The reason why the process ended is more useful than this exception.
        }
    }

    // The sockets stay connected as long as the guest runs: the agent polls its port while nothing is connected to it.
    private static async Task<Socket?> ConnectPortAsync(string path, CancellationToken cancellationToken)
    {
        if (!File.Exists(path))
        {
            return null;
        }

        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken);
            return socket;
        }
        catch (SocketException e)
        {
            socket.Dispose();
            throw new VmmException("QEMU's socket for the agent refuses connections", e);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    // Both QEMU processes map the file with the memory, so the state need not contain it.
    private Task IgnoreMemoryAsync(CancellationToken cancellationToken) =>
        _qmp!.ExecuteAsync(
            "migrate-set-capabilities",
            new JsonObject { ["capabilities"] = new JsonArray(new JsonObject { ["capability"] = "x-ignore-shared", ["state"] = true }) },
            cancellationToken);

    private async Task WatchProcessAsync()
    {
        await process.Exited;
        _exited.TrySetResult(_killed == 1
            ? "the VMM was killed by Pandora"
            : $"the VMM's process ended: {VmmProcess.ReadLog(handle.Directory)}");
    }

    private void OnEvent(string name, JsonNode? data)
    {
        if (name == "BLOCK_IO_ERROR" && data?["action"]?.GetValue<string>() == "stop")
        {
            _isStalled = true;
        }

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

    // The machine is paused now, so its console can be read before the process is killed.
    private async Task StopAsync(string reason)
    {
        _lastConsole = await ReadConsoleAsync(CancellationToken.None);
        _exited.TrySetResult(reason);
        process.Kill();
    }
}
