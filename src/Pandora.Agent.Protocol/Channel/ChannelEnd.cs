using System.Text;

namespace Pandora.Agent.Protocol.Channel;

/// <summary>
/// One end of the channel between the host and a guest's agent: many streams over one connection that may be cut at any byte and made
/// again. It does no I/O and knows no clock: its owner gives it the frames that come, and sends those that <see cref="TryNext"/> returns. A
/// stream survives a cut; it does not survive the loss of an end's memory.
/// </summary>
/// <remarks>
/// Each connection is an epoch, which the host begins with a random number. Frames of other epochs are ignored: they are from before a cut.
/// Flow control: an end keeps the bytes that it sent until the other end's user has taken them, at most a window for each stream. It is not
/// safe for use by many threads.
/// </remarks>
internal sealed partial class ChannelEnd
{
    /// <summary>Most streams at once, unless the constructor gets another number.</summary>
    public const int MostStreams = 2048;

    private const int MaxControl = 1024;
    private readonly bool _isHost;
    private readonly int _window, _maxStreams;
    private readonly Dictionary<uint, ChannelStream> _streams = [];
    private readonly Queue<ChannelStream> _accepted = new();
    private readonly Queue<ChannelStream> _changed = new();
    private readonly Queue<ChannelFrame> _control = new();
    private readonly Queue<uint> _turns = new();
    private readonly byte[] _scratch = new byte[ChannelFrame.MaxBody];

    // Epochs whose streams this end still has. The agent has several while it does not know whether its welcome has come.
    private readonly HashSet<ulong> _known = [];
    private ulong _epoch;
    private uint _lastStream;
    private ulong _rest;
    private bool _isQuiescing, _isPeerQuiet, _isHeld, _hasToContinue;

    /// <param name="isHost">Whether this is the host's end, which connects and opens streams.</param>
    /// <param name="window">Bytes that are kept for each stream, each way: at least 1.</param>
    /// <param name="maxStreams">Most streams at once: 1 to <see cref="ChannelHello.MaxStreams"/>.</param>
    public ChannelEnd(bool isHost, int window = 256 * 1024, int maxStreams = MostStreams)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(window, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(maxStreams, ChannelHello.MaxStreams);
        (_isHost, _window, _maxStreams) = (isHost, window, maxStreams);
    }

    /// <summary>Whether both ends have agreed on the epoch, so that streams' frames pass.</summary>
    public bool IsConnected { get; private set; }

    /// <summary>What the other end did wrong; null for nothing. The connection is of no use then.</summary>
    public string? Fault { get; private set; }

    /// <summary>Whether the agent has started anew, so that the host must <see cref="Connect"/> again.</summary>
    public bool MustConnect { get; private set; }

    /// <summary>Whether nothing is under way in either direction, and nothing will be before <see cref="Continue"/>.</summary>
    public bool IsQuiet => _isQuiescing && _isPeerQuiet;

    /// <summary>The streams that are open.</summary>
    public IReadOnlyCollection<ChannelStream> Streams => _streams.Values;

    /// <summary>Begins an epoch on a new connection. Streams of the last one go on if the other end still has them.</summary>
    /// <param name="epoch">A random number, not 0, that no program in the guest knows.</param>
    public void Connect(ulong epoch)
    {
        ArgumentOutOfRangeException.ThrowIfZero(epoch);
        if (!_isHost)
        {
            throw new InvalidOperationException("only the host begins an epoch");
        }

        Begin(epoch);
        var hello = new ChannelHello(_known.SingleOrDefault(), 0, Entries());
        _control.Enqueue(new ChannelFrame(FrameKind.Hello, epoch, 0, 0, hello.Encode()));
    }

    /// <summary>The agent's first frame: the host may have begun an epoch that the agent never saw.</summary>
    public void Announce() => _control.Enqueue(new ChannelFrame(FrameKind.Started, 0, 0, 0, default));

    /// <summary>A stream that frames have changed since it was returned last; null for none.</summary>
    public ChannelStream? TakeChanged()
    {
        if (!_changed.TryDequeue(out var stream))
        {
            return null;
        }

        stream.IsChanged = false;
        return stream;
    }

    /// <summary>Opens a stream. What is written to it is sent once there is a connection.</summary>
    /// <param name="request">Its first message, at most <see cref="ChannelFrame.MaxBody"/> bytes.</param>
    /// <returns>Null when there are too many streams.</returns>
    public ChannelStream? Open(ReadOnlySpan<byte> request)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(request.Length, ChannelFrame.MaxBody);
        if (!_isHost || _streams.Count >= _maxStreams)
        {
            return _isHost ? null : throw new InvalidOperationException("only the host opens streams");
        }

        return Add(new ChannelStream(++_lastStream, request.ToArray(), _window, isOpenSent: false));
    }

    /// <summary>The next stream that the host has opened; null for none.</summary>
    public ChannelStream? Accept() => _accepted.TryDequeue(out var stream) ? stream : null;

    /// <summary>Closes a stream in both directions.</summary>
    public void Reset(ChannelStream stream, string reason)
    {
        if (_streams.Remove(stream.Id) && stream.IsOpenSent && IsConnected)
        {
            Control(new ChannelFrame(FrameKind.Reset, _epoch, stream.Id, 0, Encoding.UTF8.GetBytes(reason)));
        }

        stream.Close(reason);
    }

    /// <summary>Asks for <see cref="IsQuiet"/>. The host's end sends nothing from then on.</summary>
    public void Quiesce()
    {
        if (_isHost && IsConnected && !_isQuiescing)
        {
            Control(new ChannelFrame(FrameKind.Quiesce, _epoch, 0, ++_rest, default));
            _isQuiescing = true;
        }
    }

    /// <summary>Ends the rest.</summary>
    public void Continue()
    {
        if (_isHost && _isQuiescing)
        {
            // The question may be unsent yet: then both are sent, in their order.
            (_isQuiescing, _isPeerQuiet, _hasToContinue) = (false, false, true);
        }
    }

    /// <summary>Takes a frame of the other end.</summary>
    public void Receive(in ChannelFrame frame)
    {
        if (frame.Kind == FrameKind.Hello && !_isHost)
        {
            ReceiveHello(frame);
        }
        else if (frame.Kind == FrameKind.Started && _isHost)
        {
            // What is sent in the old epoch would be lost: a stream that is opened now waits for the next.
            (MustConnect, IsConnected) = (true, false);
        }
        else if (frame.Epoch != _epoch || Fault is not null)
        {
            // From before a cut, or of an end that is not believed any more.
        }
        else if (frame.Kind == FrameKind.Welcome && _isHost)
        {
            Fault = ReceiveWelcome(frame);
        }
        else if (IsConnected)
        {
            Fault = ReceiveOfEpoch(frame);
        }
    }

    /// <summary>The next frame to send. Its body is valid until the next call.</summary>
    /// <returns>False when there is none.</returns>
    public bool TryNext(out ChannelFrame frame)
    {
        frame = default;
        if (_isHeld)
        {
            frame = new ChannelFrame(FrameKind.Continue, _epoch, 0, _rest, default);
            _isHeld = !_hasToContinue;
            _hasToContinue = false;
            return !_isHeld;
        }

        if (_control.TryDequeue(out frame))
        {
            // The agent's answer holds it, unless the host has gone on meanwhile.
            _isHeld = frame.Kind == FrameKind.Quiesce || (frame.Kind == FrameKind.Quiesced && frame.Offset == _rest);
            return true;
        }

        if (!IsConnected || Fault is not null)
        {
            return false;
        }

        // In turns, so that no stream waits for another.
        for (var i = _turns.Count; i > 0; i--)
        {
            if (!_streams.TryGetValue(_turns.Dequeue(), out var stream))
            {
                continue;
            }

            _turns.Enqueue(stream.Id);
            if (!stream.IsOpenSent)
            {
                stream.IsOpenSent = true;
                frame = new ChannelFrame(FrameKind.Open, _epoch, stream.Id, 0, stream.Request);
                return true;
            }

            if (stream.TryNext(_epoch, _scratch, out frame))
            {
                return true;
            }

            RemoveIfDone(stream);
        }

        return false;
    }

    private void Begin(ulong epoch)
    {
        _control.Clear();
        (_epoch, IsConnected, Fault, MustConnect) = (epoch, false, null, false);
        (_rest, _isQuiescing, _isPeerQuiet, _isHeld, _hasToContinue) = (0, false, false, false, false);
    }

    private ChannelStream Add(ChannelStream stream)
    {
        _streams.Add(stream.Id, stream);
        _turns.Enqueue(stream.Id);
        return stream;
    }

    private ChannelHello.Entry[] Entries() =>
        [.. _streams.Values.Where(s => s.IsOpenSent).Select(s => new ChannelHello.Entry(s.Id, s.Received, s.HasEndReceived))];

    private void ReceiveHello(in ChannelFrame frame)
    {
        if (frame.Epoch == 0 || ChannelHello.Decode(frame.Body.Span) is not { } hello)
        {
            // Another version: no answer is one that the host can read.
            return;
        }

        var isKnown = _known.Contains(hello.Previous);
        Begin(frame.Epoch);
        if (!isKnown)
        {
            _known.Clear();
            _lastStream = 0;
        }

        Match(isKnown ? hello.Streams : [], "the host has closed the stream");
        _known.Add(_epoch);
        IsConnected = true;
        var welcome = new ChannelHello(isKnown ? hello.Previous : 0, _lastStream, Entries());
        _control.Enqueue(new ChannelFrame(FrameKind.Welcome, _epoch, 0, 0, welcome.Encode()));
    }

    private string? ReceiveWelcome(in ChannelFrame frame)
    {
        if (IsConnected || ChannelHello.Decode(frame.Body.Span) is not { } welcome)
        {
            return "a welcome that nobody waits for, or of another version";
        }

        IsConnected = true;
        _known.Clear();
        _known.Add(_epoch);
        foreach (var stream in _streams.Values.Where(s => s.IsOpenSent && welcome.Previous != 0 && s.Id > welcome.LastStream))
        {
            // The cut was before the agent saw it. A stream that the agent may have seen is never opened twice.
            stream.IsOpenSent = false;
        }

        // The agent learns of streams in the order of their ids only: what it gets after a newer one it takes for seen.
        var inOrder = _turns.Order().ToList();
        _turns.Clear();
        inOrder.ForEach(_turns.Enqueue);
        Match(welcome.Streams, "the agent no longer has the stream");
        return null;
    }

    // Both ends keep the streams that both know, and the host those that the agent has not seen yet.
    private void Match(IReadOnlyList<ChannelHello.Entry> known, string reason)
    {
        var entries = new Dictionary<uint, ChannelHello.Entry>();
        foreach (var entry in known)
        {
            entries[entry.Stream] = entry;
        }

        foreach (var stream in _streams.Values.ToList())
        {
            if (entries.TryGetValue(stream.Id, out var entry))
            {
                if (!stream.Rewind(entry.Received, entry.HasEnd))
                {
                    Forget(stream, "the two ends disagree on the stream");
                }
            }
            else if (stream.IsOpenSent ? !stream.TryFinish() : !stream.Rewind(0, hasEnd: false))
            {
                Forget(stream, reason);
            }
        }
    }

    private void Forget(ChannelStream stream, string reason)
    {
        _streams.Remove(stream.Id);
        stream.Close(reason);
        Change(stream);
    }

    private void Change(ChannelStream stream)
    {
        if (!stream.IsChanged)
        {
            stream.IsChanged = true;
            _changed.Enqueue(stream);
        }
    }

    private void RemoveIfDone(ChannelStream stream)
    {
        if (stream.IsDone)
        {
            _streams.Remove(stream.Id);
        }
    }

    // The other end decides how many of these there are, so they have a bound.
    private void Control(in ChannelFrame frame)
    {
        if (_control.Count >= MaxControl)
        {
            Fault = "more questions than answers can be sent";
            return;
        }

        _control.Enqueue(frame);
    }
}
