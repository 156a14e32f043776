using System.Text;
using Pandora.Agent.Protocol;

namespace Pandora.Agent.Control;

/// <summary>Answers the frames that come over one descriptor, in order.</summary>
internal sealed class ControlSession(int descriptor)
{
    private static readonly KernelLog Kernel = new();
    private readonly byte[] _buffer = new byte[AgentProtocol.HeaderSize + AgentProtocol.MaxBody];
    private int _length;

    public void Announce() => Linux.Write(descriptor, AgentProtocol.Encode(AgentMessage.Ready, 0, []));

    /// <summary>Answers frames until the other side closes. A frame that is incomplete then is dropped.</summary>
    public void Run()
    {
        _length = 0;
        while (Linux.Read(descriptor, _buffer.AsSpan(_length)) is var count && count > 0)
        {
            _length += count;
            var used = 0;
            while (used < _length && AgentProtocol.Decode(_buffer.AsSpan(used, _length - used), out var frame) is var size && size != 0)
            {
                // If the bytes are no frame, skip one byte and try again.
                used += Math.Max(size, 1);
                if (size > 0 && !Linux.Write(descriptor, Answer(frame)))
                {
                    return;
                }
            }

            _buffer.AsSpan(used, _length - used).CopyTo(_buffer);
            _length -= used;
        }
    }

    private static byte[] Answer(AgentFrame frame)
    {
        try
        {
            switch (frame.Message)
            {
                case AgentMessage.Ping:
                    return AgentProtocol.Encode(AgentMessage.Pong, frame.Id, frame.Body.Span);
                case AgentMessage.Resume:
                    Resume.Apply(ResumeBody.Decode(frame.Body.Span));
                    return AgentProtocol.Encode(AgentMessage.Resumed, frame.Id, []);
                case AgentMessage.AskHealth:
                    return AgentProtocol.Encode(AgentMessage.Health, frame.Id, AgentProtocol.EncodeHealth(Kernel.CountDiskErrors()));
                case AgentMessage.AskUsage:
                    return AgentProtocol.Encode(AgentMessage.Usage, frame.Id, Usage.Read().Encode());
                case AgentMessage.ReadClock:
                    return AgentProtocol.Encode(AgentMessage.Clock, frame.Id, AgentProtocol.EncodeNanoseconds(Linux.Now()));
                case AgentMessage.ShiftClock:
                    Linux.SetClock(Linux.Now() + AgentProtocol.DecodeNanoseconds(frame.Body.Span));
                    return AgentProtocol.Encode(AgentMessage.ClockShifted, frame.Id, []);
                default:
                    return AgentProtocol.Encode(
                        AgentMessage.Failed, frame.Id, Encoding.UTF8.GetBytes($"there is no message {(int)frame.Message}"));
            }
        }
        catch (Exception e)
        {
            return AgentProtocol.Encode(AgentMessage.Failed, frame.Id, Encoding.UTF8.GetBytes($"{frame.Message}: {e.Message}"));
        }
    }
}
