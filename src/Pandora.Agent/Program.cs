using System.Text;
using Pandora.Agent;
using Pandora.Agent.Protocol;

// PID 1 starts it and starts it again when it ends. It serves one connection after the other: QEMU's port has only one, and Firecracker's
// has only the server's.
if (FindSerialPort() is { } path)
{
    var port = Linux.Open(path);
    var session = new Session(port);
    session.Announce();
    while (true)
    {
        session.Run();
        // Nobody is at the host's end; the port says so at once and again and again.
        Linux.Pause(250);
    }
}

int listener;
try
{
    listener = Linux.ListenVsock(AgentProtocol.VsockPort);
}
catch (IOException)
{
    // The kernel has neither device: PID 1 does not start it again.
    return 3;
}

while (true)
{
    var connection = Linux.Accept(listener);
    if (connection < 0)
    {
        Linux.Pause(50);
        continue;
    }

    var session = new Session(connection);
    session.Announce();
    session.Run();
    Linux.Close(connection);
}

static string? FindSerialPort() =>
    !Directory.Exists("/sys/class/virtio-ports")
        ? null
        : Directory
            .GetDirectories("/sys/class/virtio-ports")
            .Where(d => File.Exists($"{d}/name") && File.ReadAllText($"{d}/name").Trim() == AgentProtocol.SerialPort)
            .Select(d => $"/dev/{Path.GetFileName(d)}")
            .FirstOrDefault();

/// <summary>Answers what comes by one descriptor, in order.</summary>
internal sealed class Session(int descriptor)
{
    private static readonly KernelLog Kernel = new();
    private readonly byte[] _buffer = new byte[AgentProtocol.HeaderSize + AgentProtocol.MaxBody];
    private int _length;

    public void Announce() => Linux.Write(descriptor, AgentProtocol.Encode(AgentMessage.Ready, 0, []));

    /// <summary>Returns when the other side is gone. What it had begun is forgotten.</summary>
    public void Run()
    {
        _length = 0;
        while (Linux.Read(descriptor, _buffer.AsSpan(_length)) is var count && count > 0)
        {
            _length += count;
            var used = 0;
            while (used < _length && AgentProtocol.Decode(_buffer.AsSpan(used, _length - used), out var frame) is var size && size != 0)
            {
                // After what is no frame the next one is looked for.
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
