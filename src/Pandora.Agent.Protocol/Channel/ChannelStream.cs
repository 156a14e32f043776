namespace Pandora.Agent.Protocol.Channel;

/// <summary>
/// One end of a stream: bytes both ways, each way with a separate end. It is used where its <see cref="ChannelEnd"/> is.
/// </summary>
internal sealed class ChannelStream
{
    private readonly ByteQueue _out, _in;
    private ulong _taken;
    private bool _hasEndToSend, _isEndSent, _isEndAnswered, _hasEndToAnswer;

    internal ChannelStream(uint id, byte[] request, int window, bool isOpenSent)
    {
        (Id, Request, IsOpenSent, Window) = (id, request, isOpenSent, window);
        (_out, _in) = (new ByteQueue(window), new ByteQueue(window));
    }

    /// <summary>Id of the stream, which is not used again in an epoch.</summary>
    public uint Id { get; }

    /// <summary>The request that opened the stream.</summary>
    public byte[] Request { get; }

    /// <summary>Most bytes that are kept each way.</summary>
    public int Window { get; }

    /// <summary>Why the stream was closed in both directions; null while it was not.</summary>
    public string? ResetReason { get; private set; }

    /// <summary>Number of bytes that <see cref="Write"/> would take.</summary>
    public int Free => ResetReason is null && !_hasEndToSend ? _out.Free : 0;

    /// <summary>Number of bytes that <see cref="Read"/> would return.</summary>
    public int Available => _in.Count;

    /// <summary>Whether all bytes of the other end were read, and it sends no more.</summary>
    public bool IsAtEnd => _in.Count == 0 && HasEndReceived;

    /// <summary>Number of bytes that the other end's user has taken.</summary>
    public ulong Acknowledged => _out.Begin;

    /// <summary>Whether <see cref="ChannelEnd.TakeChanged"/> is to return the stream.</summary>
    internal bool IsChanged { get; set; }

    internal bool IsOpenSent { get; set; }

    internal bool HasEndReceived { get; private set; }

    internal ulong Received => _in.End;

    internal ulong Sent { get; private set; }

    /// <summary>Whether nothing more can happen on the stream.</summary>
    internal bool IsDone => ResetReason is not null || (IsAtEnd && !_hasEndToAnswer && _isEndAnswered && _out.Count == 0);

    /// <summary>Takes as many bytes as the window has room for.</summary>
    /// <returns>How many were taken.</returns>
    public int Write(ReadOnlySpan<byte> bytes) => Free == 0 ? 0 : _out.Add(bytes);

    /// <summary>Sends no more bytes after those written so far.</summary>
    public void End() => _hasEndToSend = true;

    /// <summary>Takes bytes that have come.</summary>
    /// <returns>How many were taken; 0 when none have come, or at the end.</returns>
    public int Read(Span<byte> bytes)
    {
        var count = _in.Peek(_in.Begin, bytes);
        _in.RemoveTo(_in.Begin + (ulong)count);
        return count;
    }

    internal void Close(string reason) => ResetReason ??= reason;

    /// <summary>Records what the other end has received, after a cut: the rest is sent again.</summary>
    /// <returns>False when that cannot be.</returns>
    internal bool Rewind(ulong received, bool hasEnd)
    {
        if (received < _out.Begin || received > _out.End || (hasEnd && (!_hasEndToSend || received != _out.End)))
        {
            return false;
        }

        (Sent, _isEndSent, _isEndAnswered, _taken, _hasEndToAnswer) = (received, hasEnd, hasEnd, 0, false);
        return true;
    }

    /// <summary>Forgets what the other end need not acknowledge any more, because it has all and has ended.</summary>
    /// <returns>False when the other end cannot have all.</returns>
    internal bool TryFinish()
    {
        if (!HasEndReceived || !_isEndSent || Sent < _out.End)
        {
            return false;
        }

        _out.RemoveTo(_out.End);
        (_isEndAnswered, _hasEndToAnswer) = (true, false);
        return true;
    }

    internal bool Receive(ulong offset, ReadOnlySpan<byte> bytes)
    {
        if (offset > _in.End || HasEndReceived)
        {
            return false;
        }

        // What came before a cut may come again.
        var known = _in.End - offset;
        if (known >= (ulong)bytes.Length)
        {
            return true;
        }

        var rest = bytes[(int)known..];
        return _in.Add(rest) == rest.Length;
    }

    internal bool ReceiveEnd(ulong offset)
    {
        HasEndReceived |= offset == _in.End;
        _hasEndToAnswer = HasEndReceived;
        return HasEndReceived;
    }

    internal bool ReceiveEnded()
    {
        _isEndAnswered = _isEndSent;
        return _isEndSent;
    }

    internal bool ReceiveTaken(ulong offset)
    {
        if (offset < _out.Begin)
        {
            return true;
        }

        if (offset > Sent)
        {
            return false;
        }

        _out.RemoveTo(offset);
        return true;
    }

    /// <summary>The next frame of the stream; its body is in the scratch memory.</summary>
    internal bool TryNext(ulong epoch, Memory<byte> scratch, out ChannelFrame frame)
    {
        frame = default;
        // At half a window, so that the other end never stops for want of it; and when all was taken, so that it can forget the rest.
        if (_in.Begin > _taken && (_in.Count == 0 || _in.Begin - _taken >= (ulong)Window / 2))
        {
            _taken = _in.Begin;
            frame = new ChannelFrame(FrameKind.Taken, epoch, Id, _taken, default);
            return true;
        }

        if (_hasEndToAnswer)
        {
            _hasEndToAnswer = false;
            frame = new ChannelFrame(FrameKind.Ended, epoch, Id, 0, default);
            return true;
        }

        if (Sent < _out.End)
        {
            var offset = Sent;
            var count = _out.Peek(offset, scratch.Span);
            Sent += (ulong)count;
            frame = new ChannelFrame(FrameKind.Data, epoch, Id, offset, scratch[..count]);
            return true;
        }

        if (_hasEndToSend && !_isEndSent)
        {
            _isEndSent = true;
            frame = new ChannelFrame(FrameKind.End, epoch, Id, _out.End, default);
            return true;
        }

        return false;
    }
}
