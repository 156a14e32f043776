using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using Microsoft.Extensions.Logging;
using Renci.SshNet;
using Renci.SshNet.Common;

namespace Pandora.Engine.Guests;

/// <summary>A guest that is reached over one SSH connection, which stays open. The host key is pinned.</summary>
/// <remarks>
/// dropbear 2022.83 has a defect: when the child of any channel exits, dropbear closes every other channel that is open and has no command
/// yet. When the command then comes, dropbear aborts the whole connection (seen as a failed assertion in common-channel.c). So one gate is
/// held from the opening of a channel until its command is sent, and by all code that makes shells exit.
/// </remarks>
internal sealed partial class SshGuest : IGuest
{
    /// <summary>Number of cgroups that the guest's init makes, and number that are made at a time later.</summary>
    private const int FirstGroups = 32, GroupBatch = 16;
    private static readonly TimeSpan KillLimit = TimeSpan.FromSeconds(3), ConnectLimit = TimeSpan.FromSeconds(20);
    private readonly string _address;
    private readonly ClientKey _key;
    private readonly byte[] _hostKey;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly SemaphoreSlim _permits;
    private readonly SemaphoreSlim _connecting = new(1, 1);
    private readonly SemaphoreSlim _gate = new(1, 1);
    private readonly ConcurrentQueue<SshExec> _toRelease = new();
    private readonly ConcurrentDictionary<SshExec, bool> _open = new();
    private readonly Lock _lock = new();
    private readonly List<int> _finishedGroups = [];
    private readonly CommandKiller _killer;
    private SshClient _client;
    private Task _opening = Task.CompletedTask;
    private int _lastGroup;
    private int _madeGroups = FirstGroups;
    private int _isReleasing;
    private volatile bool _disposed;

    private SshGuest(string address, ClientKey key, byte[] hostKey, int maxExecs, TimeProvider time, ILogger logger)
    {
        _permits = new SemaphoreSlim(maxExecs);
        _address = address;
        _key = key;
        _hostKey = hostKey;
        _time = time;
        _logger = logger;
        _client = NewClient();
        _killer = new CommandKiller(() => _client, ConnectAnotherAsync, c => _ = CloseAsync(c, Task.CompletedTask), _gate, time, logger);
    }

    /// <summary>Waits until the guest is up, connects and authenticates.</summary>
    /// <param name="address">The guest's address on the host.</param>
    /// <param name="key">The server's key.</param>
    /// <param name="hostKey">The only host key that is accepted.</param>
    /// <param name="maxExecs">Most commands whose channels may be open at once. A command that has ended counts while a process that it
    /// started lives.</param>
    /// <param name="isAdopted">Whether an earlier server used the guest. Then the commands that it had running are killed.</param>
    /// <param name="time">Clock of the pauses and limits.</param>
    /// <param name="logger">Receives later errors.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public static async Task<SshGuest> ConnectAsync(
        IPAddress address,
        ClientKey key,
        byte[] hostKey,
        int maxExecs,
        bool isAdopted,
        TimeProvider time,
        ILogger logger,
        CancellationToken cancellationToken)
    {
        await WaitForNetworkAsync(address, time, cancellationToken);
        var guest = new SshGuest(address.ToString(), key, hostKey, maxExecs, time, logger);
        while (true)
        {
            try
            {
                await guest.OpenAsync(cancellationToken);
                if (isAdopted)
                {
                    await guest.AdoptAsync(cancellationToken);
                }

                return guest;
            }
            catch (SocketException)
            {
                // The guest's network is up, but its SSH server is not yet.
                await Task.Delay(TimeSpan.FromMilliseconds(10), time, cancellationToken);
            }
            catch
            {
                // This does not wait for the dispose, which may take as long again.
                _ = guest.DisposeAsync().AsTask();
                throw;
            }
        }
    }

    /// <inheritdoc/>
    public async Task<GuestResult> ExecAsync(GuestCommand command, CancellationToken cancellationToken)
    {
        if (!_permits.Wait(0, CancellationToken.None))
        {
            throw new PandoraException(
                PandoraError.TooManyExecs,
                "too many commands run in this sandbox, or have processes in the background: end some of them first");
        }

        using var limit = new CancellationTokenSource(command.Timeout, _time);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        SshExec exec;
        SshClient client;
        try
        {
            client = await ConnectedClientAsync(stop.Token);
            exec = new SshExec(client, _gate, command, Interlocked.Increment(ref _lastGroup));
            exec.Start(stop.Token);
        }
        catch (Exception e)
        {
            _permits.Release();
            cancellationToken.ThrowIfCancellationRequested();
            throw e is OperationCanceledException
                ? PandoraException.NotSent("the guest's SSH server did not answer within the command's timeout", e) : e;
        }

        // The permit is held until the channel is closed. That is later than the answer if a process of the command still lives.
        _open[exec] = true;
        _ = exec.Closed.ContinueWith(
            _ =>
            {
                _open.TryRemove(exec, out var _);
                _permits.Release();
                ReturnGroup(client, exec.Group);
            }, TaskScheduler.Default);
        try
        {
            return await exec.Result.WaitAsync(stop.Token);
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            return await StopAsync(client, exec, cancellationToken);
        }
        catch (PandoraException e) when (e.Error != PandoraError.InvalidRequest && e.Command is null)
        {
            // The command may still run, and nothing else would end it.
            var stopped = await _killer.KillAsync(exec);
            throw new PandoraException(e.Error, $"{e.Message}; {stopped.Words}", innerException: e) { Stop = stopped };
        }
        finally
        {
            if (exec.IsWaiting)
            {
                Release(exec);
            }
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _disposed = true;
        await CloseAsync(_client, _opening);
        // Closing the connection does not wake the threads that read the outputs of open commands: without this, each command would keep
        // two threads for ever.
        foreach (var (exec, _) in _open)
        {
            exec.Abandon();
        }

        _connecting.Dispose();
    }

    // This connects to a closed port: when the guest's network is up the guest refuses at once, and its SSH server has no work. Attempts
    // are short, because a lost packet would otherwise cost a second.
    private static async Task WaitForNetworkAsync(IPAddress address, TimeProvider time, CancellationToken cancellationToken)
    {
        while (true)
        {
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            using var pause = new CancellationTokenSource(TimeSpan.FromMilliseconds(30), time);
            using var attempt = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, pause.Token);
            try
            {
                await socket.ConnectAsync(new IPEndPoint(address, 1), attempt.Token);
                return;
            }
            catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionRefused)
            {
                return;
            }
            catch (SocketException)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(20), time, cancellationToken);
            }
            catch (OperationCanceledException)
            {
                cancellationToken.ThrowIfCancellationRequested();
            }
        }
    }

    private async Task OpenAsync(CancellationToken cancellationToken)
    {
        // SSH.NET ignores the token once it has the SSH server's name, and each of its steps may take the whole limit: so the wait takes
        // the token, too.
        _opening = _client.ConnectAsync(cancellationToken);
        await _opening.WaitAsync(cancellationToken);
        // From here on this limits each step of opening a channel. A busy guest may take long; a command's timeout ends its wait sooner.
        _client.ConnectionInfo.Timeout = TimeSpan.FromMinutes(5);
    }

    // Waits for the connect to end first: a client that is disposed of while it connects would keep its socket and its thread.
    private static async Task CloseAsync(SshClient client, Task opening)
    {
        await opening.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await SshExec.OnThread(() => client.Dispose());
    }

    private SshClient NewClient()
    {
        var info = new ConnectionInfo(_address, 22, "root", new PrivateKeyAuthenticationMethod("root", _key.PrivateKey))
        {
            MaxSessions = 1024,
            Timeout = ConnectLimit,
            ChannelCloseTimeout = TimeSpan.FromSeconds(1),
        };
        var client = new SshClient(info);
        client.HostKeyReceived += (_, e) => e.CanTrust = CryptographicOperations.FixedTimeEquals(e.HostKey, _hostKey);
        return client;
    }

    // Opens the connection again if the guest dropped it: one attempt for each exec that finds it closed.
    private async Task<SshClient> ConnectedClientAsync(CancellationToken cancellationToken)
    {
        if (_client.IsConnected)
        {
            return _client;
        }

        await _connecting.WaitAsync(cancellationToken);
        try
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (!_client.IsConnected)
            {
                LogReconnecting(_address);
                // In the background: it may take long.
                _ = CloseAsync(_client, _opening);
                _client = NewClient();
                await OpenAsync(cancellationToken);
            }

            return _client;
        }
        catch (Exception e) when (e is SocketException or SshException or ObjectDisposedException)
        {
            throw PandoraException.NotSent($"the guest's SSH server does not answer ({e.Message})", e);
        }
        finally
        {
            _connecting.Release();
        }
    }

    // Releases the shell in the background, together with all others that wait.
    private void Release(SshExec exec)
    {
        _toRelease.Enqueue(exec);
        if (Interlocked.Exchange(ref _isReleasing, 1) == 0)
        {
            _ = ReleaseAllAsync();
        }
    }

    private async Task ReleaseAllAsync()
    {
        do
        {
            await _gate.WaitAsync();
            try
            {
                var batch = new List<SshExec>();
                while (_toRelease.TryDequeue(out var exec))
                {
                    batch.Add(exec);
                }

                // On a thread of the pool: the host may have no room for a new thread, and then the shells would wait for ever.
                await Task.Run(() => batch.ForEach(e => e.Release()))
                    .WaitAsync(KillLimit, _time)
                    .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                await Task.WhenAll(batch.Select(e => e.Closed))
                    .WaitAsync(KillLimit, _time)
                    .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
            finally
            {
                _gate.Release();
                Volatile.Write(ref _isReleasing, 0);
            }
        }
        while (!_toRelease.IsEmpty && Interlocked.Exchange(ref _isReleasing, 1) == 0);
    }

    private void ReturnGroup(SshClient client, int group)
    {
        string script;
        lock (_lock)
        {
            _finishedGroups.Add(group);
            if (_madeGroups - _lastGroup > GroupBatch || _finishedGroups.Count < GroupBatch)
            {
                return;
            }

            var first = Math.Max(_madeGroups, _lastGroup) + 1;
            _madeGroups = first + GroupBatch - 1;
            script = ExecScript.Recycle(first, _madeGroups, _finishedGroups);
            _finishedGroups.Clear();
        }

        _ = RunQuietlyAsync(client, script);
    }

    private async Task AdoptAsync(CancellationToken cancellationToken)
    {
        var output = await SshExec.RunBoundedAsync(_client, ExecScript.Adopt(), cancellationToken);
        if (!int.TryParse(output, out var last) || last is < 0 or > int.MaxValue / 2)
        {
            throw new PandoraException(PandoraError.GuestUnreachable, "the guest did not report which commands run in it");
        }

        _lastGroup = _madeGroups = Math.Max(last, FirstGroups);
    }

    // Runs a command for the server itself, and holds the gate until that command has ended.
    private async Task RunQuietlyAsync(SshClient client, string script)
    {
        var running = Task.Run(async () =>
        {
            await _gate.WaitAsync();
            try
            {
                await SshExec.RunPatientlyAsync(client, script, _time);
            }
            finally
            {
                _gate.Release();
            }
        });
        try
        {
            await running.WaitAsync(KillLimit, _time);
        }
        catch (Exception e) when (e is SshException or TimeoutException or ObjectDisposedException or InvalidOperationException
            or SocketException or OperationCanceledException or PandoraException)
        {
            LogMaintenanceFailed(_address, e.Message);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The SSH connection to {Address} is closed and is opened again")]
    private partial void LogReconnecting(string address);

    [LoggerMessage(Level = LogLevel.Debug, Message = "A maintenance command failed in the guest at {Address}: {Error}")]
    private partial void LogMaintenanceFailed(string address, string error);
}
