using Pandora.Agent.Protocol.Channel;

namespace Pandora.Tests.Channel;

/// <summary>The two ends of a channel, and the bytes between them.</summary>
internal sealed class ChannelLink
{
    public const int Window = 1000;
    private readonly Queue<byte> _toAgent = new(), _toHost = new();
    private FrameReader _atAgent = new(), _atHost = new();
    private ulong _epoch;

    public ChannelLink() => Connect();

    public ChannelEnd Host { get; private set; } = new(isHost: true, Window);

    public ChannelEnd Agent { get; private set; } = new(isHost: false, Window);

    public ulong Epoch => _epoch;

    public int Cuts { get; private set; }

    public bool IsEmpty => _toAgent.Count + _toHost.Count == 0;

    public void Connect()
    {
        Add(_toAgent, FrameReader.Padding.Span);
        Host.Connect(++_epoch);
    }

    public void PumpAll()
    {
        for (var i = 0; i < 20; i++)
        {
            Pump(int.MaxValue, int.MaxValue);
        }
    }

    public void Pump(int toAgent, int toHost)
    {
        Fill(Host, _toAgent);
        Move(_toAgent, _atAgent, Agent, toAgent);
        Fill(Agent, _toHost);
        Move(_toHost, _atHost, Host, toHost);
    }

    // The end of what is under way is lost, at any byte, in each direction; the agent does not notice.
    public void Cut(Random random)
    {
        Cuts++;
        Shorten(_toAgent, random);
        _toHost.Clear();
        _atHost = new FrameReader();
        Connect();
    }

    public void RestartAgent()
    {
        Agent = new ChannelEnd(isHost: false, Window);
        _atAgent = new FrameReader();
        Cut(new Random(1));
    }

    // The connection stays as it is.
    public void StartAgentAnew()
    {
        Agent = new ChannelEnd(isHost: false, Window);
        _atAgent = new FrameReader();
        Agent.Announce();
    }

    public void RestartHost()
    {
        Host = new ChannelEnd(isHost: true, Window);
        Cut(new Random(1));
    }

    private static void Shorten(Queue<byte> bytes, Random random)
    {
        var kept = bytes.Take(random.Next(bytes.Count + 1)).ToArray();
        bytes.Clear();
        Add(bytes, kept);
    }

    // A little at a time: what is in the queue is lost by a cut, and what is in the ends is not.
    private static void Fill(ChannelEnd end, Queue<byte> bytes)
    {
        while (bytes.Count < 3000 && end.TryNext(out var frame))
        {
            var wire = new byte[frame.Size];
            frame.Write(wire);
            Add(bytes, wire);
        }
    }

    private static void Move(Queue<byte> bytes, FrameReader reader, ChannelEnd end, int most)
    {
        while (most > 0 && bytes.Count > 0)
        {
            var room = reader.Room.Span;
            var count = Math.Min(Math.Min(most, bytes.Count), room.Length);
            for (var i = 0; i < count; i++)
            {
                room[i] = bytes.Dequeue();
            }

            most -= count;
            reader.Received(count);
            while (reader.TryRead(out var frame))
            {
                end.Receive(frame);
            }
        }
    }

    private static void Add(Queue<byte> bytes, ReadOnlySpan<byte> more)
    {
        foreach (var b in more)
        {
            bytes.Enqueue(b);
        }
    }
}
