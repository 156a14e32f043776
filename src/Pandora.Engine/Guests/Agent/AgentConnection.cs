namespace Pandora.Engine.Guests.Agent;

/// <summary>
/// The way to one guest's agent: it opens streams. What comes over them was made by the guest, and cannot be trusted.
/// </summary>
internal abstract class AgentConnection : IAsyncDisposable
{
    /// <summary>Waits until the agent answers.</summary>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public abstract Task WaitAsync(CancellationToken cancellationToken);

    /// <summary>Opens a stream. It does not wait for the agent when the connection has one descriptor for all streams.</summary>
    /// <param name="request">The first bytes of the stream.</param>
    /// <param name="cancellationToken">Cancels the opening.</param>
    /// <exception cref="IOException">The stream cannot be opened, and the guest has received nothing.</exception>
    public abstract Task<AgentStream> OpenAsync(ReadOnlyMemory<byte> request, CancellationToken cancellationToken);

    /// <summary>Makes sure that nothing is under way, and that nothing will be: the guest is to be saved.</summary>
    /// <exception cref="InvalidOperationException">A stream is open.</exception>
    public abstract Task QuiesceAsync(CancellationToken cancellationToken);

    /// <inheritdoc/>
    public abstract ValueTask DisposeAsync();
}

/// <summary>One stream to the agent.</summary>
internal abstract class AgentStream
{
    /// <summary>Whether the guest may have received the request.</summary>
    public abstract bool IsSent { get; }

    /// <summary>Closes the stream if the guest has received nothing of it, so that it never will.</summary>
    /// <returns>False when it may have.</returns>
    public abstract bool TryWithdraw();

    /// <summary>Reads some bytes; 0 at the end.</summary>
    /// <exception cref="IOException">The stream was closed by the other end, or the connection broke.</exception>
    public abstract ValueTask<int> ReadAsync(Memory<byte> bytes, CancellationToken cancellationToken);

    /// <summary>Writes all bytes, and waits while the other end has no room.</summary>
    /// <exception cref="IOException">The stream was closed by the other end, or the connection broke.</exception>
    public abstract ValueTask WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken);

    /// <summary>Closes both directions, without waiting.</summary>
    /// <param name="mustForget">Whether the agent may forget the process of the stream, whose end is known.</param>
    public abstract void Close(bool mustForget);
}
