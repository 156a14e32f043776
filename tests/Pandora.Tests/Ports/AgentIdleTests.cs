using System.Net;
using Pandora.Agent;
using Pandora.Agent.Ports;
using Pandora.Agent.Protocol.Ports;
using GuestStream = Pandora.Agent.Transport.AgentStream;

namespace Pandora.Tests.Ports;

/// <summary>What connections cost on which nothing moves.</summary>
public sealed class AgentIdleTests
{
    private const int Count = 500;

    [Fact]
    public void An_idle_connection_costs_the_agent_less_than_2_KiB()
    {
        using var listener = AgentConnectTests.Listen(IPAddress.Loopback, backlog: Count);
        using var loop = new EventLoop();
        var ports = new GuestPorts(loop, PortTalk.NoSsh(loop));
        var streams = Enumerable.Range(0, Count).Select(_ => new QuietStream(AgentConnectTests.PortOf(listener))).ToList();
        List<PortSession> sessions = new(Count);
        var (before, after) = (0L, 0L);
        loop.Handled = () =>
        {
            if (sessions.Count > 0 && !streams[sessions.Count - 1].IsOpened)
            {
                return;
            }

            // The first one is for what is made once.
            before = sessions.Count == 1 ? GC.GetAllocatedBytesForCurrentThread() : before;
            if (sessions.Count < Count)
            {
                loop.Post(Add);
            }
            else
            {
                after = GC.GetAllocatedBytesForCurrentThread();
                loop.Stop();
            }
        };
        loop.Post(() => { });
        loop.Run();
        // What was allocated in all, so that what other tests do at the same time does not count.
        var each = (after - before) / (Count - 1);
        TestContext.Current.SendDiagnosticMessage("{0} bytes for each idle connection", each);
        Assert.Equal(Count, ports.Connections);
        Assert.InRange(each, 1, 2048);
        streams.ForEach(s => s.Leave());
        Assert.Equal(0, ports.Connections);

        void Add() => sessions.Add(
            new PortSession(streams[sessions.Count], PortMessages.Encode(PortMessage.Connect, new byte[8]).AsSpan(0, 5), ports));
    }

    /// <summary>A stream that brings one request.</summary>
    private sealed class QuietStream(int port) : GuestStream
    {
        private readonly byte[] _request = new ConnectRequest(port).Encode();
        private int _read;
        private bool _hasLeft;

        public bool IsOpened { get; private set; }

        public override bool IsClosed => _hasLeft;

        public override bool HasServerLeft => _hasLeft;

        public override int Free => 256 * 1024;

        public void Leave()
        {
            _hasLeft = true;
            Changed!();
        }

        public override int Read(Span<byte> bytes)
        {
            var count = Math.Min(bytes.Length, _request.Length - _read);
            _request.AsSpan(_read, count).CopyTo(bytes);
            _read += count;
            return count;
        }

        public override void Write(ReadOnlySpan<byte> bytes) => IsOpened |= bytes[4] == (byte)PortMessage.Opened;

        public override void End()
        {
        }
    }
}
