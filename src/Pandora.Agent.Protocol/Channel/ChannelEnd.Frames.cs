using System.Text;

namespace Pandora.Agent.Protocol.Channel;

/// <content>What frames of the current epoch change.</content>
internal sealed partial class ChannelEnd
{
    private string? ReceiveOfEpoch(in ChannelFrame frame)
    {
        if (_known.Count > 1)
        {
            // The welcome has come: the host does not go back to an earlier epoch.
            _known.Clear();
            _known.Add(_epoch);
        }

        switch (frame.Kind)
        {
            case FrameKind.Open when !_isHost:
                return ReceiveOpen(frame);
            case FrameKind.Quiesce when !_isHost:
                _rest = frame.Offset;
                Control(new ChannelFrame(FrameKind.Quiesced, _epoch, 0, _rest, default));
                return null;
            case FrameKind.Continue when !_isHost:
                (_rest, _isHeld) = (0, false);
                return null;
            case FrameKind.Quiesced when _isHost:
                // It may answer a question that was given up meanwhile.
                _isPeerQuiet = _isQuiescing && frame.Offset == _rest;
                return null;
            case FrameKind.Data or FrameKind.Taken or FrameKind.End or FrameKind.Ended or FrameKind.Reset:
                return _isPeerQuiet ? "a frame during the rest" : ReceiveOfStream(frame);
            default:
                return $"a frame of kind {(int)frame.Kind}";
        }
    }

    private string? ReceiveOpen(in ChannelFrame frame)
    {
        if (frame.Stream <= _lastStream)
        {
            return "a stream that was opened already";
        }

        _lastStream = frame.Stream;

        if (_streams.Count >= _maxStreams)
        {
            Control(new ChannelFrame(FrameKind.Reset, _epoch, frame.Stream, 0, Encoding.UTF8.GetBytes("too many streams")));
            return null;
        }

        _accepted.Enqueue(Add(new ChannelStream(frame.Stream, frame.Body.ToArray(), _window, isOpenSent: true)));
        return null;
    }

    private string? ReceiveOfStream(in ChannelFrame frame)
    {
        if (!_streams.TryGetValue(frame.Stream, out var stream))
        {
            // It was closed here while the frame was under way.
            return null;
        }

        var before = (stream.Received, stream.Acknowledged, stream.HasEndReceived);
        var isGood = frame.Kind switch
        {
            FrameKind.Data => stream.Receive(frame.Offset, frame.Body.Span),
            FrameKind.Taken => stream.ReceiveTaken(frame.Offset),
            FrameKind.End => stream.ReceiveEnd(frame.Offset),
            FrameKind.Ended => stream.ReceiveEnded(),
            _ => true,
        };
        if (before != (stream.Received, stream.Acknowledged, stream.HasEndReceived))
        {
            Change(stream);
        }

        if (frame.Kind == FrameKind.Reset)
        {
            Forget(stream, Encoding.UTF8.GetString(frame.Body.Span));
        }

        return isGood ? null : $"{frame.Kind} of stream {frame.Stream} at {frame.Offset}, which cannot be";
    }
}
