namespace Pandora.Server.Hosting.Connections;

/// <summary>
/// A bound for all connections or for those of one address. It lists the connections that may be closed for a new one, oldest first.
/// </summary>
internal sealed class ConnectionBound(int most)
{
    /// <summary>Number of connections, without those that are closing.</summary>
    public int Count { get; private set; }

    public bool IsFull => Count >= most;

    /// <summary>
    /// Connections whose client must send something: a first byte, the rest of the headers, or another request after those that were
    /// answered.
    /// </summary>
    public LinkedList<TrackedConnection> Waiting { get; } = new();

    /// <summary>Connections with a request that the server has neither answered nor accepted yet.</summary>
    public LinkedList<TrackedConnection> Asking { get; } = new();

    /// <summary>Connections with a request that passed without being accepted.</summary>
    public LinkedList<TrackedConnection> Served { get; } = new();

    /// <summary>Number of connections that may be closed for new ones.</summary>
    public int UnadmittedCount => Waiting.Count + Asking.Count + Served.Count;

    /// <summary>
    /// The connection to close for a new one; null when all are admitted. It is the oldest in <see cref="Waiting"/>, because a client in
    /// <see cref="Asking"/> has done its part and waits for the server. Only when <see cref="Asking"/> is longer, it is the oldest there:
    /// bytes that look like a request need not be one. When <see cref="Served"/> is the longest, it is the oldest there. So a flood of any
    /// kind closes connections of the flood.
    /// </summary>
    public TrackedConnection? Oldest
    {
        get
        {
            var longer = Waiting.Count >= Asking.Count ? Waiting : Asking;
            return (longer.Count >= Served.Count ? longer : Served).First?.Value;
        }
    }

    public void Add(TrackedConnection connection)
    {
        Count++;
        connection.Places.Add((this, Waiting.AddLast(connection)));
    }

    public void Remove(LinkedListNode<TrackedConnection> node)
    {
        Count--;
        node.List?.Remove(node);
    }

    /// <summary>Moves a connection to the end of the list of its state.</summary>
    public void Move(LinkedListNode<TrackedConnection> node, ConnectionState state)
    {
        node.List?.Remove(node);
        switch (state)
        {
            case ConnectionState.Silent or ConnectionState.Waiting:
                Waiting.AddLast(node);
                break;
            case ConnectionState.Asking:
                Asking.AddLast(node);
                break;
            case ConnectionState.Served:
                Served.AddLast(node);
                break;
        }
    }
}
