namespace Pandora.Agent.Transport;

/// <summary>The agent's end of one stream to the server.</summary>
internal abstract class AgentStream
{
    /// <summary>Called when bytes have come, room has come, or the stream was closed.</summary>
    public Action? Changed { get; set; }

    /// <summary>Whether the server has gone, or has closed the stream in both directions.</summary>
    public abstract bool IsClosed { get; }

    /// <summary>Whether the server has gone, or sends no more bytes, although some of them may be unread.</summary>
    public abstract bool HasServerLeft { get; }

    /// <summary>Why the server has closed the stream; null when it has not, or said nothing.</summary>
    public virtual string? CloseReason => null;

    /// <summary>Number of bytes that <see cref="Write"/> takes.</summary>
    public abstract int Free { get; }

    /// <summary>Takes bytes of the server; 0 when none have come.</summary>
    public abstract int Read(Span<byte> bytes);

    /// <summary>Sends bytes, at most <see cref="Free"/>.</summary>
    public abstract void Write(ReadOnlySpan<byte> bytes);

    /// <summary>Sends no more bytes after those written so far.</summary>
    public abstract void End();
}
