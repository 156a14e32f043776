using System.Net;
using System.Net.Sockets;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Ports;

/// <summary>
/// Listens on ports of this host and connects each connection there to a port of a sandbox, both ways, until it is stopped or the sandbox
/// ends. A connection that the sandbox refuses is closed, and the first of its kind is reported.
/// </summary>
/// <param name="sandbox">The sandbox.</param>
/// <param name="keepsAlive">Whether the sandbox is kept alive meanwhile.</param>
/// <param name="say">Tells the user.</param>
internal sealed class Forwarder(Sandbox sandbox, bool keepsAlive, Action<string> say) : IDisposable
{
    // More than a server allows one sandbox. What comes then waits in the kernel.
    private const int MaxConnections = 1024, Backlog = 512;
    private static readonly TimeSpan CheckTime = TimeSpan.FromSeconds(5), PauseTime = TimeSpan.FromMilliseconds(100);
    private readonly List<(Socket Socket, int Port)> _listeners = [];
    private readonly SemaphoreSlim _free = new(MaxConnections), _check = new(0, 1);
    private readonly Dictionary<int, string> _said = [];
    private bool _isUnreachable;

    /// <summary>Asks whether the sandbox lives.</summary>
    /// <exception cref="PandoraClientException">It does not, or the server does not answer.</exception>
    public Task CheckAsync(CancellationToken cancellationToken) =>
        keepsAlive ? sandbox.KeepAliveAsync(cancellationToken) : sandbox.GetAsync(cancellationToken);

    /// <summary>Begins to listen for a port of the sandbox. Connections wait until <see cref="RunAsync"/>.</summary>
    /// <returns>Where it listens.</returns>
    /// <exception cref="UsageException">The address cannot be listened on.</exception>
    public IPEndPoint Listen(IPEndPoint local, int port)
    {
        var socket = new Socket(local.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        _listeners.Add((socket, port));
        try
        {
            socket.Bind(local);
            socket.Listen(Backlog);
        }
        catch (SocketException e)
        {
            var hint = e.SocketErrorCode == SocketError.AddressAlreadyInUse ? $" ('0:{port}' takes any port that is free)" : "";
            throw new UsageException($"{local} cannot be listened on: {e.Message}{hint}");
        }

        return (IPEndPoint)socket.LocalEndPoint!;
    }

    /// <summary>Forwards.</summary>
    /// <param name="cancellationToken">Ends it, with all connections.</param>
    /// <exception cref="PandoraClientException">The sandbox has ended, or the key is not valid any more.</exception>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var tasks = _listeners.Select(l => AcceptAsync(l.Socket, l.Port, ending.Token)).Append(WatchAsync(ending.Token)).ToList();
        try
        {
            await await Task.WhenAny(tasks);
        }
        finally
        {
            await ending.CancelAsync();
            await Task.WhenAll(tasks).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _listeners.ForEach(l => l.Socket.Dispose());

    private async Task AcceptAsync(Socket listener, int port, CancellationToken cancellationToken)
    {
        while (true)
        {
            await _free.WaitAsync(cancellationToken);
            Socket socket;
            try
            {
                socket = await listener.AcceptAsync(cancellationToken);
            }
            catch (SocketException e)
            {
                // The client has gone, or no descriptor is free until another connection ends.
                _free.Release();
                Say(port, $"a connection was not accepted: {e.Message}");
                await Task.Delay(PauseTime, TimeProvider.System, cancellationToken);
                continue;
            }

            _ = ServeAsync(socket, port, cancellationToken);
        }
    }

    private async Task ServeAsync(Socket socket, int port, CancellationToken cancellationToken)
    {
        try
        {
            socket.NoDelay = true;
            await using var stream = await sandbox.Ports.ConnectAsync(port, cancellationToken);
            Forget(port);
            await PumpAsync(socket, stream, cancellationToken);
        }
        catch (Exception e) when (e is PandoraClientException or IOException or SocketException or OperationCanceledException)
        {
            // The client hears it as it would of a broken connection of its own.
            socket.LingerState = new LingerOption(true, 0);
            if (!cancellationToken.IsCancellationRequested)
            {
                Report(port, e);
            }
        }
        finally
        {
            socket.Dispose();
            _free.Release();
        }
    }

    private static async Task PumpAsync(Socket socket, PortStream stream, CancellationToken cancellationToken)
    {
        await using var local = new NetworkStream(socket);
        using var broken = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Exception? first = null;
        async Task RunAsync(Func<Task> copy)
        {
            try
            {
                await copy();
            }
            catch (Exception e) when (e is IOException or SocketException or OperationCanceledException)
            {
                Interlocked.CompareExchange(ref first, e, null);
                await broken.CancelAsync();
            }
        }

        await Task.WhenAll(
            RunAsync(async () =>
            {
                await Pump.CopyAsync(local, stream, broken.Token);
                await stream.EndWriteAsync(broken.Token);
            }),
            RunAsync(async () =>
            {
                await Pump.CopyAsync(stream, local, broken.Token);
                socket.Shutdown(SocketShutdown.Send);
            }));
        if (first is not null)
        {
            throw first;
        }
    }

    // What ends the forwarding is found out by the next check, which follows at once.
    private void Report(int port, Exception cause)
    {
        switch (cause)
        {
            case PandoraApiException { Code: var code } when code == ErrorCodes.PortClosed.Code:
                Say(port, $"no program listens on port {port} of sandbox {sandbox.Id}: its connections are closed until one does");
                break;
            case SandboxNotFoundException or SandboxGoneException or IOException or SocketException or OperationCanceledException:
                CheckSoon();
                break;
            default:
                Say(port, $"a connection to port {port} of sandbox {sandbox.Id} was closed: {cause.Message}");
                CheckSoon();
                break;
        }
    }

    private void CheckSoon()
    {
        try
        {
            _check.Release();
        }
        catch (SemaphoreFullException)
        {
            // A check is due already.
        }
    }

    private async Task WatchAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            await _check.WaitAsync(CheckTime, cancellationToken);
            try
            {
                await CheckAsync(cancellationToken);
                _isUnreachable = false;
            }
            catch (PandoraClientException e) when (Reconnection.Helps(e))
            {
                // A server that is started again adopts the sandbox.
                if (!_isUnreachable)
                {
                    say($"pandora: {e.Message}; the forwarding goes on when the server answers");
                }

                _isUnreachable = true;
            }

            // Connections that break one after another must not make requests as fast.
            await Task.Delay(PauseTime, TimeProvider.System, cancellationToken);
        }
    }

    private void Say(int port, string words)
    {
        lock (_said)
        {
            if (_said.GetValueOrDefault(port) == words)
            {
                return;
            }

            _said[port] = words;
        }

        say($"pandora: {words}");
    }

    private void Forget(int port)
    {
        lock (_said)
        {
            _said.Remove(port);
        }
    }
}
