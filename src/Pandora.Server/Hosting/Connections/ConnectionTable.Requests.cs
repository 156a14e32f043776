namespace Pandora.Server.Hosting.Connections;

// What a connection learns about its requests. HTTP/2 has several at once on one connection.
internal sealed partial class ConnectionTable
{
    /// <summary>Records that a request has come, which the server has not checked yet.</summary>
    public void Begin(TrackedConnection connection)
    {
        lock (_lock)
        {
            connection.Requests++;
            if (connection.State is ConnectionState.Waiting or ConnectionState.Asking)
            {
                Set(connection, ConnectionState.Asking);
            }
        }
    }

    /// <summary>Records that a request passed which does not admit the connection.</summary>
    public void Serve(TrackedConnection connection)
    {
        lock (_lock)
        {
            connection.IsServing = true;
            if (connection.State is ConnectionState.Waiting or ConnectionState.Asking)
            {
                Set(connection, ConnectionState.Served);
            }
        }
    }

    /// <summary>Records that a request was answered. If no other runs and none was accepted, the connection waits for the next
    /// one.</summary>
    public void End(TrackedConnection connection)
    {
        lock (_lock)
        {
            connection.Requests--;
            if (connection.Requests > 0)
            {
                return;
            }

            connection.IsServing = false;
            if (connection.State is ConnectionState.Asking or ConnectionState.Served)
            {
                Set(connection, ConnectionState.Waiting);
            }
        }
    }

    /// <summary>Records that a request was accepted.</summary>
    /// <param name="connection">The connection.</param>
    /// <param name="ended">Cancelled when what was accepted is valid no more. Then the connection must be admitted again.</param>
    public void Admit(TrackedConnection connection, CancellationToken ended)
    {
        lock (_lock)
        {
            if (connection.State is ConnectionState.Waiting or ConnectionState.Asking or ConnectionState.Served)
            {
                connection.SetState(ConnectionState.Admitted);
            }

            if (connection is { State: ConnectionState.Admitted, Ended: null })
            {
                connection.Ended = ended.UnsafeRegister(_ => Dismiss(connection), null);
            }
        }
    }

    private void Dismiss(TrackedConnection connection)
    {
        lock (_lock)
        {
            connection.Ended = null;
            if (connection.State == ConnectionState.Admitted)
            {
                // Requests that the key began are cut, and those of others that came through the same proxy are not.
                Set(connection, connection switch
                {
                    { Requests: 0 } => ConnectionState.Waiting,
                    { IsServing: true } => ConnectionState.Served,
                    _ => ConnectionState.Asking,
                });
            }
        }
    }

    private void Set(TrackedConnection connection, ConnectionState state)
    {
        connection.SetState(state);
        connection.Since = _time.GetTimestamp();
    }
}
