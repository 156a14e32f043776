using System.Text;
using Pandora.Agent.Protocol.Channel;

namespace Pandora.Tests.Channel;

/// <summary>Streams between host and agent, over a connection that is cut anywhere.</summary>
public sealed class ChannelTests(ITestOutputHelper output)
{
    private const int Window = ChannelLink.Window;

    [Fact]
    public void Bytes_go_both_ways_and_each_way_ends_by_itself()
    {
        var link = new ChannelLink();
        var stream = link.Host.Open("run"u8)!;
        stream.Write("input"u8);
        stream.End();
        link.PumpAll();
        var accepted = link.Agent.Accept()!;
        Assert.Equal(("run", "input"), (Encoding.ASCII.GetString(accepted.Request), ReadAll(accepted)));
        Assert.True(accepted.IsAtEnd);
        accepted.Write("output"u8);
        accepted.End();
        link.PumpAll();
        Assert.Equal("output", ReadAll(stream));
        Assert.True(stream.IsAtEnd);
        link.PumpAll();
        Assert.Empty(link.Host.Streams);
        Assert.Empty(link.Agent.Streams);
        Assert.Equal(5ul, stream.Acknowledged);
    }

    [Fact]
    public void A_reader_that_stops_holds_its_own_stream_and_no_other()
    {
        var link = new ChannelLink();
        var (slow, quick) = (link.Host.Open("slow"u8)!, link.Host.Open("quick"u8)!);
        Assert.Equal(Window, slow.Write(new byte[5 * Window]));
        link.PumpAll();
        Assert.Equal((0, 0ul), (slow.Free, slow.Acknowledged));
        var (accepted, other) = (link.Agent.Accept()!, link.Agent.Accept()!);
        for (var i = 0; i < 100; i++)
        {
            Assert.Equal(Window, quick.Write(new byte[Window]));
            link.PumpAll();
            Assert.Equal(Window, other.Read(new byte[2 * Window]));
            link.PumpAll();
        }

        Assert.Equal(0, slow.Free);
        Assert.Equal(Window, accepted.Read(new byte[2 * Window]));
        link.PumpAll();
        Assert.Equal(Window, slow.Free);
    }

    [Theory]
    [InlineData(null)]
    // Streams that the agent had not seen were opened again in another order.
    [InlineData(214)]
    [InlineData(519)]
    [InlineData(559)]
    public void Whatever_is_cut_every_byte_arrives_once_and_in_order(int? known)
    {
        var seed = known ?? Environment.TickCount;
        output.WriteLine($"seed {seed}");
        var random = new Random(seed);
        var link = new ChannelLink();
        var (open, done) = (new Dictionary<uint, ChannelTalk>(), 0);
        for (var step = 0; step < 20_000 || open.Count > 0; step++)
        {
            Assert.True(step < 60_000, $"{open.Count} streams never end, seed {seed}");
            var isClosing = step >= 20_000;
            if (!isClosing && open.Count < 8 && random.Next(20) == 0 && link.Host.Open("x"u8) is { } stream)
            {
                open.Add(stream.Id, new ChannelTalk(stream, random.Next(5000), random.Next(5000)));
            }

            link.Pump(random.Next(4000), random.Next(4000));
            if (random.Next(isClosing ? 2000 : 60) == 0)
            {
                link.Cut(random);
            }

            while (link.Agent.Accept() is { } accepted)
            {
                Assert.True(open[accepted.Id].Accept(accepted), $"stream {accepted.Id} was opened twice, seed {seed}");
            }

            foreach (var talk in open.Values.ToList())
            {
                Assert.True(talk.Step(random), $"stream {talk.Id}: {talk.Problem}, seed {seed}");
                if (talk.IsDone)
                {
                    open.Remove(talk.Id);
                    done++;
                }
            }

            Assert.Null(link.Host.Fault);
            Assert.Null(link.Agent.Fault);
        }

        Assert.True(done > 50, $"only {done} streams");
        output.WriteLine($"{done} streams, {link.Cuts} cuts");
    }

    [Fact]
    public void A_stream_that_a_dead_agent_may_have_seen_is_not_opened_again()
    {
        var link = new ChannelLink();
        var seen = link.Host.Open("seen"u8)!;
        link.PumpAll();
        var unseen = link.Host.Open("unseen"u8)!;
        link.RestartAgent();
        link.PumpAll();
        Assert.Equal("the agent no longer has the stream", seen.ResetReason);
        Assert.Null(unseen.ResetReason);
        Assert.Equal("unseen", Encoding.ASCII.GetString(link.Agent.Accept()!.Request));
        Assert.Null(link.Agent.Accept());
    }

    [Fact]
    public void A_stream_that_the_agent_closed_during_a_cut_is_not_opened_again()
    {
        var link = new ChannelLink();
        var stream = link.Host.Open("run"u8)!;
        link.PumpAll();
        link.Agent.Reset(link.Agent.Accept()!, "there is no such program");
        link.Cut(new Random(1));
        link.PumpAll();
        Assert.NotNull(stream.ResetReason);
        Assert.Null(link.Agent.Accept());
    }

    [Fact]
    public void A_new_host_closes_the_streams_of_the_old_one()
    {
        var link = new ChannelLink();
        link.Host.Open("old"u8);
        link.PumpAll();
        var old = link.Agent.Accept()!;
        link.RestartHost();
        link.Host.Open("new"u8);
        link.PumpAll();
        Assert.Equal("the host has closed the stream", old.ResetReason);
        Assert.Equal("new", Encoding.ASCII.GetString(link.Agent.Accept()!.Request));
    }

    [Fact]
    public void Two_cuts_in_a_row_lose_no_stream()
    {
        var link = new ChannelLink();
        var stream = link.Host.Open("run"u8)!;
        link.PumpAll();
        var accepted = link.Agent.Accept()!;
        link.Cut(new Random(1));
        // The hello arrives, its answer does not.
        link.Pump(int.MaxValue, 0);
        link.Cut(new Random(1));
        link.PumpAll();
        Assert.Null(stream.ResetReason);
        accepted.Write("still here"u8);
        link.PumpAll();
        Assert.Equal("still here", ReadAll(stream));
    }

    [Fact]
    public void At_rest_nothing_is_under_way_until_the_host_goes_on()
    {
        var link = new ChannelLink();
        var stream = link.Host.Open("run"u8)!;
        link.PumpAll();
        var accepted = link.Agent.Accept()!;
        for (var round = 0; round < 3; round++)
        {
            stream.Write("in"u8);
            accepted.Write("out"u8);
            link.Host.Quiesce();
            Assert.False(link.Host.IsQuiet);
            link.PumpAll();
            Assert.True(link.Host.IsQuiet);
            Assert.True(link.IsEmpty);
            accepted.Write("more"u8);
            link.Agent.Reset(accepted, "during the rest");
            stream.Write("more"u8);
            link.PumpAll();
            Assert.True(link.Host.IsQuiet);
            link.Host.Continue();
            Assert.False(link.Host.IsQuiet);
            link.PumpAll();
            Assert.Equal("during the rest", stream.ResetReason);
            stream = link.Host.Open("again"u8)!;
            link.PumpAll();
            accepted = link.Agent.Accept()!;
        }

        // Given up before the answer has come, and asked again.
        link.Host.Quiesce();
        link.Pump(int.MaxValue, 0);
        link.Host.Continue();
        link.Host.Quiesce();
        link.PumpAll();
        Assert.True(link.Host.IsQuiet);
        Assert.Null(link.Host.Fault);
        link.Host.Continue();
        accepted.Write("done"u8);
        link.PumpAll();
        Assert.Equal("done", ReadAll(stream));
    }

    [Fact]
    public void An_agent_that_started_anew_says_so_and_receives_what_is_opened_from_then_on()
    {
        var link = new ChannelLink();
        var old = link.Host.Open("old"u8)!;
        link.PumpAll();
        Assert.False(link.Host.MustConnect);
        link.StartAgentAnew();
        link.PumpAll();
        Assert.Equal((true, false), (link.Host.MustConnect, link.Host.IsConnected));
        var next = link.Host.Open("next"u8)!;
        link.PumpAll();
        Assert.False(next.IsOpenSent);
        Assert.Null(link.Agent.Accept());
        Assert.Null(old.ResetReason);
        link.Connect();
        link.PumpAll();
        Assert.Equal((false, true), (link.Host.MustConnect, link.Host.IsConnected));
        Assert.Equal("the agent no longer has the stream", old.ResetReason);
        Assert.Same(old, link.Host.TakeChanged());
        Assert.Equal("next", Encoding.ASCII.GetString(link.Agent.Accept()!.Request));
        // A second word of it, late, costs another epoch and no stream.
        link.Agent.Announce();
        link.PumpAll();
        Assert.True(link.Host.MustConnect);
        link.Connect();
        link.PumpAll();
        Assert.Null(next.ResetReason);
        Assert.True(link.Host.IsConnected);
    }

    [Fact]
    public void A_stream_is_told_once_for_all_its_changes_and_not_when_nothing_changed()
    {
        var link = new ChannelLink();
        var (one, two) = (link.Host.Open("1"u8)!, link.Host.Open("2"u8)!);
        link.PumpAll();
        Assert.Null(link.Host.TakeChanged());
        var (first, second) = (link.Agent.Accept()!, link.Agent.Accept()!);
        second.Write("a"u8);
        first.Write("a"u8);
        link.PumpAll();
        second.Write("b"u8);
        second.End();
        link.PumpAll();
        Assert.Equal([one, two], new[] { link.Host.TakeChanged()!, link.Host.TakeChanged()! }.OrderBy(s => s.Id));
        Assert.Null(link.Host.TakeChanged());
        link.Host.Receive(new ChannelFrame(FrameKind.Data, link.Epoch, one.Id, 0, "a"u8.ToArray()));
        link.Host.Receive(new ChannelFrame(FrameKind.Data, link.Epoch, one.Id, 1, default));
        link.Host.Receive(new ChannelFrame(FrameKind.Taken, link.Epoch, one.Id, 0, default));
        Assert.Null(link.Host.Fault);
        Assert.Null(link.Host.TakeChanged());
        link.Agent.Reset(first, "gone");
        link.PumpAll();
        Assert.Same(one, link.Host.TakeChanged());
        Assert.Equal(("gone", 0), (one.ResetReason, one.Free));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Any_frames_of_a_hostile_end_are_a_fault_at_most(bool isHost)
    {
        var seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        var random = new Random(seed);
        for (var round = 0; round < 200; round++)
        {
            var end = new ChannelEnd(isHost, Window, maxStreams: 16);
            if (isHost)
            {
                end.Connect(1);
                end.Open("x"u8);
            }

            for (var i = 0; i < 2000; i++)
            {
                var body = new byte[random.Next(40)];
                random.NextBytes(body);
                if (body.Length > 0)
                {
                    body[0] = ChannelHello.Version;
                }

                var offset = random.Next(3) == 0 ? (ulong)random.NextInt64() : (ulong)random.Next(50);
                end.Receive(new ChannelFrame((FrameKind)random.Next(13), (ulong)random.Next(3), (uint)random.Next(5), offset, body));
                if (random.Next(4) == 0)
                {
                    end.TryNext(out _);
                }
            }

            Assert.True(end.Streams.Count <= 16);
        }
    }

    private static string ReadAll(ChannelStream stream)
    {
        var bytes = new byte[10 * Window];
        return Encoding.ASCII.GetString(bytes, 0, stream.Read(bytes));
    }
}
