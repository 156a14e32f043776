using Pandora.Agent.Protocol.Ports;

namespace Pandora.Agent.Ports;

/// <summary>
/// Connects to a port of the guest itself: to 127.0.0.1, then to ::1, then to the other own addresses on which a program listens. It runs
/// on the loop, and waits for nothing.
/// </summary>
internal sealed class Connector
{
    private const int MostAddresses = 64;
    private static readonly byte[] s_loopback4 = [127, 0, 0, 1];
    private static readonly byte[] s_loopback6 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    private readonly EventLoop _loop;
    private readonly int _port;
    private readonly Action<int> _connected;
    private readonly Action<PortFailure> _failed;
    private readonly Queue<byte[]> _addresses = new([s_loopback4, s_loopback6]);
    private int _descriptor = -1, _tried;
    private bool _isWatched, _isOver;

    /// <param name="loop">Tells when a connection is made.</param>
    /// <param name="port">The port.</param>
    /// <param name="connected">Receives the socket, and owns it from then on.</param>
    /// <param name="failed">Receives why there is none. One of the two is called, once, unless it was given up before.</param>
    public Connector(EventLoop loop, int port, Action<int> connected, Action<PortFailure> failed) =>
        (_loop, _port, _connected, _failed) = (loop, port, connected, failed);

    /// <summary>Begins. It may call back at once.</summary>
    /// <param name="milliseconds">Longest wait.</param>
    public void Begin(int milliseconds)
    {
        _loop.After(milliseconds, () => Fail(
            PortFailureKind.Timeout, $"the program that listens on port {_port} accepted no connection for {milliseconds} ms"));
        TryNext();
    }

    /// <summary>Gives up, unless the socket was handed over.</summary>
    public void GiveUp()
    {
        _isOver = true;
        Drop();
    }

    private void TryNext()
    {
        while (!_isOver)
        {
            if (!_addresses.TryDequeue(out var address))
            {
                if (_tried > 2 || !FindOthers())
                {
                    Fail(PortFailureKind.Closed, $"no program listens on port {_port}");
                    return;
                }

                continue;
            }

            // After the first two, so that the list is read only when both are refused.
            var error = Linux.ConnectTcp(address, _port, mustBeOwn: ++_tried > 2, out _descriptor);
            if (error == Linux.InProgress)
            {
                _isWatched = true;
                _loop.Add(_descriptor, Linux.EpollOut, _ => OnReady());
                return;
            }

            Conclude(error);
        }
    }

    private void OnReady()
    {
        var error = Linux.TakeSocketError(_descriptor);
        if (error == 0 && !Linux.IsConnected(_descriptor, out _) && Linux.LastError == Linux.NotConnected)
        {
            // The event was one of an earlier descriptor with the same number.
            return;
        }

        Conclude(error);
        try
        {
            TryNext();
        }
        catch (IOException e)
        {
            Drop();
            Fail(PortFailureKind.Guest, $"the agent cannot watch the connection: {e.Message}");
        }
    }

    // Hands the connection over, or drops it, so that the next address is tried.
    private void Conclude(int error)
    {
        if (error == 0 && Linux.IsConnected(_descriptor, out var isToItself) && !isToItself)
        {
            var descriptor = _descriptor;
            Unwatch();
            (_descriptor, _isOver) = (-1, true);
            _connected(descriptor);
            return;
        }

        if (_descriptor >= 0 && error == 0)
        {
            // The port must be free at once for the program that wants it.
            Linux.BreakAtClose(_descriptor);
        }

        Drop();
        if (error is 23 or 24 or 12 or 105)
        {
            // ENFILE, EMFILE, ENOMEM, ENOBUFS say nothing of the port.
            Fail(PortFailureKind.Guest, $"the guest can open no more sockets: error {error}");
        }
    }

    private bool FindOthers()
    {
        foreach (var socket in ListeningSocket.ReadAll())
        {
            if (socket.Port == _port && _addresses.Count < MostAddresses && !IsKnown(socket.Address))
            {
                _addresses.Enqueue(socket.Address);
            }
        }

        return _addresses.Count > 0;
    }

    private bool IsKnown(byte[] address) => address.AsSpan().IndexOfAnyExcept((byte)0) < 0
        || address.AsSpan().SequenceEqual(s_loopback4) || address.AsSpan().SequenceEqual(s_loopback6)
        || _addresses.Any(a => a.AsSpan().SequenceEqual(address));

    private void Fail(PortFailureKind kind, string reason)
    {
        if (!_isOver)
        {
            GiveUp();
            _failed(new PortFailure(kind, reason));
        }
    }

    private void Drop()
    {
        if (_descriptor >= 0)
        {
            Unwatch();
            Linux.Close(_descriptor);
            _descriptor = -1;
        }
    }

    private void Unwatch()
    {
        if (_isWatched)
        {
            _loop.Remove(_descriptor);
            _isWatched = false;
        }
    }
}
