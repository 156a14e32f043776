namespace Pandora.Server.Hosting.Connections;

/// <summary>
/// A bound of connections, of all or of one address's, with those that may be closed for a newcomer, in the order of their coming.
/// </summary>
internal sealed class ConnectionBound(int most)
{
    /// <summary>How many there are, those that are closing left out.</summary>
    public int Count { get; private set; }

    public bool IsFull => Count >= most;

    /// <summary>
    /// Those from which something is awaited: a first byte, the rest of the headers, another request after one that was not let pass.
    /// </summary>
    public LinkedList<TrackedConnection> Waiting { get; } = new();

    /// <summary>Those that have sent a request that the server has neither answered nor let pass yet.</summary>
    public LinkedList<TrackedConnection> Asking { get; } = new();

    /// <summary>How many may be closed for newcomers.</summary>
    public int UnadmittedCount => Waiting.Count + Asking.Count;

    /// <summary>
    /// The one to close for a newcomer, null when all are admitted: the oldest that waits. A request that has come is the server's to look
    /// at, and its client has done all that it could; only where such are more (what looks like a request need not be one) the oldest of
    /// them. So a flood of either kind closes its own connections.
    /// </summary>
    public TrackedConnection? Oldest => (Waiting.Count >= Asking.Count ? Waiting : Asking).First?.Value;

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

    /// <summary>Puts one last among those of a state.</summary>
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
        }
    }
}
