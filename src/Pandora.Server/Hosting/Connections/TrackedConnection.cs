using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;

namespace Pandora.Server.Hosting.Connections;

/// <summary>How far a connection has come.</summary>
internal enum ConnectionState
{
    /// <summary>Not a byte has come; the web server does not know it yet.</summary>
    Silent,

    /// <summary>Something has come, but not the whole headers of a request; or a request was answered that was not let pass.</summary>
    Waiting,

    /// <summary>The whole headers of a request have come, and the server has not answered it or let it pass yet.</summary>
    Asking,

    /// <summary>A request has been let pass.</summary>
    Admitted,

    /// <summary>Its socket is closed, and what the web server holds for it is on its way out.</summary>
    Closing,

    /// <summary>Nothing is left of it.</summary>
    Closed,
}

/// <summary>A connection as the table knows it. All but <see cref="Close"/> is under the table's lock.</summary>
internal sealed class TrackedConnection(
    ConnectionTable table, IPAddress address, Action? close = null, Func<bool>? hasSent = null) : IAdmission
{
    private ConnectionContext? _context;

    public IPAddress Address { get; } = address;

    public ConnectionState State { get; set; }

    /// <summary>Puts it last among those of a state.</summary>
    public void SetState(ConnectionState state)
    {
        State = state;
        Places.ForEach(p => p.Bound.Move(p.Node, state));
    }

    /// <summary>Timestamp of the opening, or of the last request.</summary>
    public long Since { get; set; }

    /// <summary>Its places in the lists of all, and of its address.</summary>
    public List<(ConnectionBound Bound, LinkedListNode<TrackedConnection> Node)> Places { get; } = [];

    /// <summary>Whether something has come that nobody has read yet.</summary>
    public bool HasUnread => State == ConnectionState.Silent && hasSent?.Invoke() == true;

    public void Attach(ConnectionContext? context) => _context = context;

    /// <remarks>For good: a proxy sends different clients' requests on one connection.</remarks>
    public bool IsAdmitted => State == ConnectionState.Admitted;

    public void Begin() => table.Begin(this);

    public void Admit()
    {
        if (!IsAdmitted)
        {
            table.Admit(this);
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

    /// <summary>Resets a socket: nothing is said any more, and nothing of it lingers in the kernel.</summary>
    public static void Reset(Socket socket) => socket.Close(timeout: 0);
}
