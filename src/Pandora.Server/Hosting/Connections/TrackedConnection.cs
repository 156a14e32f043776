using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;

namespace Pandora.Server.Hosting.Connections;

/// <summary>State of a connection.</summary>
internal enum ConnectionState
{
    /// <summary>No byte has come on it; the web server does not have it yet.</summary>
    Silent,

    /// <summary>Bytes have come, but not the complete headers of a request; or all its requests were answered and none was
    /// accepted.</summary>
    Waiting,

    /// <summary>The complete headers of a request have come, and the server has neither answered nor accepted it yet.</summary>
    Asking,

    /// <summary>A request runs that passed without being accepted: to a public port, or by a link to a preview.</summary>
    Served,

    /// <summary>A request was accepted.</summary>
    Admitted,

    /// <summary>Its socket is closed, and the web server still frees its memory.</summary>
    Closing,

    /// <summary>It is closed and its memory is free.</summary>
    Closed,
}

/// <summary>A connection in the table. All members but <see cref="Close"/> are used under the table's lock.</summary>
internal sealed class TrackedConnection(
    ConnectionTable table, IPAddress address, Action? close = null, Func<bool>? hasSent = null, Func<bool>? hasKey = null) : IAdmission
{
    private ConnectionContext? _context;

    public IPAddress Address { get; } = address;

    public ConnectionState State { get; set; }

    /// <summary>Sets the state, and moves the connection to the end of the state's list in each bound.</summary>
    public void SetState(ConnectionState state)
    {
        State = state;
        Places.ForEach(p => p.Bound.Move(p.Node, state));
    }

    /// <summary>Timestamp of the opening, or of the last request.</summary>
    public long Since { get; set; }

    /// <summary>Number of requests that have come and were not answered yet.</summary>
    public int Requests { get; set; }

    /// <summary>Whether one of these requests, or one that ran beside them, passed without being accepted.</summary>
    public bool IsServing { get; set; }

    /// <summary>Its places in the bound of all connections, and in that of its address.</summary>
    public List<(ConnectionBound Bound, LinkedListNode<TrackedConnection> Node)> Places { get; } = [];

    /// <summary>Whether bytes have come that the server has not read yet.</summary>
    public bool HasUnread => State == ConnectionState.Silent && hasSent?.Invoke() == true;

    /// <summary>Whether the unread bytes are the headers of a request with a valid key.</summary>
    public bool HasUnreadKey => HasUnread && hasKey?.Invoke() == true;

    public void Attach(ConnectionContext? context) => _context = context;

    /// <summary>What ends the admission; null when it was not admitted by a request.</summary>
    public CancellationTokenRegistration? Ended { get; set; }

    /// <summary>Whether a request on the connection was accepted.</summary>
    /// <remarks>It stays true while what admitted it is valid: a proxy sends the requests of different clients on one connection.</remarks>
    public bool IsAdmitted => State == ConnectionState.Admitted;

    public void Begin() => table.Begin(this);

    public void Serve() => table.Serve(this);

    public void Admit(CancellationToken ended)
    {
        if (!IsAdmitted || Ended is null)
        {
            table.Admit(this, ended);
        }
    }

    public void End() => table.End(this);

    /// <summary>Resets the connection. Its descriptor is free when this returns.</summary>
    public void Close(ClosingReason reason)
    {
        if (_context is { } context)
        {
            context.Abort(new ConnectionAbortedException($"closed by the server: {reason}"));
        }
        else
        {
            close?.Invoke();
        }
    }

    /// <summary>Resets a socket: no more bytes are sent, and the kernel keeps nothing of the connection.</summary>
    public static void Reset(Socket socket) => socket.Close(timeout: 0);
}
