using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Pandora.Agent.Protocol.Channel;
using Pandora.Engine.Guests.Agent;
using Pandora.Fakes;

namespace Pandora.Tests.Guests;

/// <summary>The server's end of the channel against the agent's real end, and against hostile ones.</summary>
public sealed partial class ChannelConnectionTests(ITestOutputHelper output)
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(1);
    private readonly CountingTime _time = new();
    private readonly ChannelAgent _agent = new();

    [Fact]
    public async Task Bytes_go_both_ways_on_many_streams_at_once()
    {
        EchoAll(_agent);
        await using var connection = Connect(out var wire);
        await connection.WaitAsync(default).WaitAsync(Patience);
        await Task.WhenAll(Enumerable.Range(0, 40).Select(async i =>
        {
            var stream = await connection.OpenAsync(Encoding.ASCII.GetBytes($"{i}:"), default);
            var bytes = Pattern(i, 300_000);
            var writing = stream.WriteAsync(bytes, default).AsTask();
            Assert.Equal($"{i}:", Encoding.ASCII.GetString(await ReadAsync(stream, $"{i}:".Length)));
            Assert.Equal(bytes, await ReadAsync(stream, bytes.Length));
            await writing.WaitAsync(Patience);
            Assert.True(stream.IsSent);
            stream.Close(mustForget: false);
        }));
        Assert.Equal(0, _agent.Get((end, _) => end.Streams.Count));
        Assert.Null(wire.Misuse);
    }

    [Fact]
    public async Task A_request_that_is_longer_than_a_frame_arrives_whole()
    {
        var received = new List<byte>();
        _agent.Changed = stream =>
        {
            received.AddRange(received.Count == 0 ? stream.Request : []);
            for (var bytes = new byte[8192]; stream.Read(bytes) is var count && count > 0;)
            {
                received.AddRange(bytes[..count]);
            }
        };
        await using var connection = Connect(out _);
        var request = Pattern(1, 1_000_000);
        await connection.OpenAsync(request, default).WaitAsync(Patience);
        await FakeNode.UntilAsync(() => _agent.Get((_, _) => received.Count) >= request.Length);
        Assert.Equal(request, received);
    }

    [Fact]
    public async Task A_reader_that_stops_makes_its_own_writer_wait_and_no_other()
    {
        await using var connection = Connect(out _);
        var slow = await connection.OpenAsync("slow"u8.ToArray(), default);
        var writing = slow.WriteAsync(new byte[1_000_000], default).AsTask();
        var quick = await connection.OpenAsync("quick"u8.ToArray(), default);
        _agent.Changed = stream =>
        {
            if (Encoding.ASCII.GetString(stream.Request) == "quick")
            {
                ChannelAgent.Text(stream);
            }
        };
        await quick.WriteAsync(new byte[2_000_000], default).AsTask().WaitAsync(Patience);
        Assert.False(writing.IsCompleted);
        EchoAll(_agent);
        Assert.Equal(4, (await ReadAsync(slow, 4)).Length);
        for (var left = 1_000_000; left > 0;)
        {
            left -= (await ReadAsync(slow, Math.Min(left, 10_000))).Length;
        }

        await writing.WaitAsync(Patience);
    }

    [Fact]
    public async Task A_user_that_reads_nothing_holds_no_more_than_a_window()
    {
        await using var connection = Connect(out _);
        var stream = await connection.OpenAsync("x"u8.ToArray(), default);
        _agent.Changed = s => s.Write(new byte[s.Free]);
        _agent.Do((_, streams) => streams[0].Write(new byte[1_000_000]));
        Assert.Equal(0, _agent.Get((_, streams) => streams[0].Free));
        Assert.Equal(300_000, (await ReadAsync(stream, 300_000)).Length);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(1000)]
    public async Task However_the_bytes_are_cut_into_reads_they_arrive(int most)
    {
        EchoAll(_agent);
        var random = new Random(1);
        await using var connection = Connect(out _, wire => wire.MostRead = () => random.Next(1, most + 1));
        var stream = await connection.OpenAsync("abc"u8.ToArray(), default);
        await stream.WriteAsync(Pattern(3, 2000), default).AsTask().WaitAsync(Patience);
        Assert.Equal("abc"u8.ToArray(), await ReadAsync(stream, 3));
        Assert.Equal(Pattern(3, 2000), await ReadAsync(stream, 2000));
    }

    [Fact]
    public async Task Wherever_a_connection_breaks_its_users_hear_of_it_and_the_next_one_works()
    {
        EchoAll(_agent);
        // The padding, and the hello and the streams after it.
        var length = ChannelFrame.MaxSize + 500;
        for (var cut = 1; cut <= length; cut += cut < ChannelFrame.MaxSize - 40 ? 1511 : 1)
        {
            var at = cut;
            await using (var broken = Connect(out _, wire => wire.FailAfter = at))
            {
                try
                {
                    var lost = await broken.OpenAsync("lost"u8.ToArray(), default);
                    await lost.WriteAsync(new byte[500], default).AsTask().WaitAsync(Patience);
                    await ReadAsync(lost, 504);
                    Assert.Fail($"more than {cut} bytes were written");
                }
                catch (IOException e)
                {
                    Assert.Contains("cut", e.Message);
                }

                Assert.True(broken.IsBroken);
                await Assert.ThrowsAsync<IOException>(() => broken.WaitAsync(default).WaitAsync(Patience));
                await Assert.ThrowsAsync<IOException>(() => broken.QuiesceAsync(default).WaitAsync(Patience));
            }

            await using var next = Connect(out _);
            var stream = await next.OpenAsync("next"u8.ToArray(), default);
            Assert.Equal("next"u8.ToArray(), await ReadAsync(stream, 4));
        }
    }

    [Fact]
    public async Task The_padding_is_sent_before_all_else_even_when_the_agent_has_spoken_already()
    {
        await using var connection = Connect(out var wire, _ => _agent.Do((end, _) => end.Announce()));
        await connection.WaitAsync(default).WaitAsync(Patience);
        Assert.All(wire.First.Take(ChannelFrame.MaxSize), b => Assert.Equal(0, b));
    }

    [Fact]
    public async Task When_the_agent_starts_anew_streams_end_and_the_next_ones_work()
    {
        EchoAll(_agent);
        await using var connection = Connect(out _);
        var stream = await connection.OpenAsync("old"u8.ToArray(), default);
        await ReadAsync(stream, 3);
        var reading = stream.ReadAsync(new byte[1], default).AsTask();
        _agent.Restart();
        var error = await Assert.ThrowsAsync<IOException>(() => reading.WaitAsync(Patience));
        Assert.Equal("the agent no longer has the stream", error.Message);
        await Assert.ThrowsAsync<IOException>(() => stream.WriteAsync(new byte[1], default).AsTask());
        Assert.False(stream.TryWithdraw());
        var next = await connection.OpenAsync("new"u8.ToArray(), default);
        Assert.Equal("new"u8.ToArray(), await ReadAsync(next, 3));

        // An agent that dies again and again does not keep the server busy: the next epoch begins after a pause.
        var pauses = _time.Timers;
        _agent.Restart();
        await FakeNode.UntilAsync(() => _time.Timers > pauses);
        var again = await connection.OpenAsync("again"u8.ToArray(), default);
        Assert.False(again.IsSent);
        var answer = ReadAsync(again, 5);
        await AdvanceUntilAsync(() => answer.IsCompleted);
        Assert.Equal("again"u8.ToArray(), await answer);
    }

    [Fact]
    public async Task A_stream_that_the_guest_never_received_is_withdrawn_and_wakes_its_reader()
    {
        var seen = new List<string>();
        _agent.Changed = s => seen.Add(Encoding.ASCII.GetString(s.Request));
        await using var connection = Connect(out var wire, w => w.Stall());
        var stream = await connection.OpenAsync("withdrawn"u8.ToArray(), default);
        var reading = stream.ReadAsync(new byte[1], default).AsTask();
        Assert.True(stream.TryWithdraw());
        await Assert.ThrowsAsync<IOException>(() => reading.WaitAsync(Patience));
        var other = await connection.OpenAsync("other"u8.ToArray(), default);
        wire.Go();
        await FakeNode.UntilAsync(() => _agent.Get((_, _) => seen.Count > 0));
        Assert.Equal(["other"], seen);
        Assert.False(other.TryWithdraw());
    }

    [Fact]
    public async Task Streams_that_close_wake_those_that_wait_for_them()
    {
        await using var connection = Connect(out _);
        var stream = await connection.OpenAsync("x"u8.ToArray(), default);
        var reading = stream.ReadAsync(new byte[1], default).AsTask();
        stream.Close(mustForget: true);
        await Assert.ThrowsAsync<IOException>(() => reading.WaitAsync(Patience));
        Assert.Equal("forget", _agent.Get((_, streams) => streams[0].ResetReason));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Disposal_and_the_end_of_the_connection_wake_everybody(bool isDisposed)
    {
        var connection = Connect(out var wire, w => w.Stall());
        var waiting = connection.WaitAsync(default);
        var resting = connection.QuiesceAsync(default);
        var full = await connection.OpenAsync("full"u8.ToArray(), default);
        var empty = await connection.OpenAsync("empty"u8.ToArray(), default);
        var writing = full.WriteAsync(new byte[1_000_000], default).AsTask();
        var reading = empty.ReadAsync(new byte[1], default).AsTask();
        Assert.All(new[] { waiting, resting, writing, reading }, t => Assert.False(t.IsCompleted));
        if (isDisposed)
        {
            await connection.DisposeAsync().AsTask().WaitAsync(Patience);
            Assert.True(wire.IsDisposed);
        }
        else
        {
            wire.End();
        }

        foreach (var task in new[] { waiting, resting, writing, reading })
        {
            await Assert.ThrowsAsync<IOException>(() => task.WaitAsync(Patience));
        }

        await Assert.ThrowsAsync<IOException>(() => connection.OpenAsync("late"u8.ToArray(), default));
        await connection.DisposeAsync();
    }

    [Fact]
    public async Task A_cancelled_read_and_write_end_and_lose_nothing()
    {
        EchoAll(_agent);
        await using var connection = Connect(out _);
        var stream = await connection.OpenAsync("x"u8.ToArray(), default);
        await ReadAsync(stream, 1);
        using var cancelled = new CancellationTokenSource();
        var reading = stream.ReadAsync(new byte[10], cancelled.Token).AsTask();
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => reading.WaitAsync(Patience));
        await stream.WriteAsync("abc"u8.ToArray(), default);
        Assert.Equal("abc"u8.ToArray(), await ReadAsync(stream, 3));
    }

    [Fact]
    public async Task At_rest_nothing_is_sent_by_either_end()
    {
        await using var connection = Connect(out var wire);
        var stream = await connection.OpenAsync("x"u8.ToArray(), default);
        await FakeNode.UntilAsync(() => stream.IsSent);
        await Assert.ThrowsAsync<InvalidOperationException>(() => connection.QuiesceAsync(default));
        stream.Close(mustForget: false);
        await connection.QuiesceAsync(default).WaitAsync(Patience);
        await connection.QuiesceAsync(default).WaitAsync(Patience);
        var (read, written) = (wire.Taken, wire.Written);
        _ = await connection.OpenAsync("y"u8.ToArray(), default);
        _agent.Do((end, _) => end.Quiesce());
        Assert.Equal((read, written), (wire.Taken, wire.Written));
    }

    [Fact]
    public async Task A_rest_during_which_the_agent_starts_anew_is_not_waited_for()
    {
        _agent.Hostile = frame =>
        {
            if (frame.Kind == FrameKind.Hello)
            {
                _agent.Send(new ChannelFrame(FrameKind.Welcome, frame.Epoch, 0, 0, new ChannelHello(0, 0, []).Encode()));
            }
        };
        await using var connection = Connect(out _);
        var resting = connection.QuiesceAsync(default);
        _agent.Send(new ChannelFrame(FrameKind.Started, 0, 0, 0, default));
        await Assert.ThrowsAsync<IOException>(() => resting.WaitAsync(Patience));
    }

    [Fact]
    public async Task Too_many_streams_are_refused()
    {
        await using var connection = Connect(out _);
        for (var i = 0; i < ChannelEnd.MostStreams; i++)
        {
            await connection.OpenAsync("x"u8.ToArray(), default);
        }

        await Assert.ThrowsAsync<IOException>(() => connection.OpenAsync("x"u8.ToArray(), default));
    }

    private ChannelConnection Connect(out Wire wire, Action<Wire>? prepare = null)
    {
        wire = _agent.Connect();
        prepare?.Invoke(wire);
        return new ChannelConnection(wire, "test", _time, NullLogger.Instance);
    }

    private async Task AdvanceUntilAsync(Func<bool> condition) => await FakeNode.UntilAsync(() =>
    {
        _time.Advance(TimeSpan.FromMilliseconds(50));
        return condition();
    });

    // Every stream gives back its request and all that comes.
    private static void EchoAll(ChannelAgent agent)
    {
        var pending = new Dictionary<ChannelStream, Queue<byte[]>>();
        void Echo(ChannelStream stream)
        {
            if (!pending.TryGetValue(stream, out var queue))
            {
                pending[stream] = queue = new Queue<byte[]>([stream.Request]);
            }

            // No more is taken than is given back, so that the window holds.
            while (true)
            {
                if (queue.Count == 0)
                {
                    var bytes = new byte[Math.Min(stream.Available, 8192)];
                    if (stream.Read(bytes) == 0)
                    {
                        return;
                    }

                    queue.Enqueue(bytes);
                }

                var first = queue.Dequeue();
                var count = stream.Write(first);
                if (count < first.Length)
                {
                    queue.Enqueue(first[count..]);
                    return;
                }
            }
        }

        agent.Changed = Echo;
        agent.Do((_, streams) => streams.ToList().ForEach(Echo));
    }

    private static byte[] Pattern(int salt, int length)
    {
        var bytes = new byte[length];
        new Random(salt).NextBytes(bytes);
        return bytes;
    }

    private static async Task<byte[]> ReadAsync(AgentStream stream, int count)
    {
        var bytes = new byte[count];
        for (var at = 0; at < count;)
        {
            var read = await stream.ReadAsync(bytes.AsMemory(at), default).AsTask().WaitAsync(Patience);
            at += read > 0 ? read : throw new IOException("the end");
        }

        return bytes;
    }

    // Tells when somebody waits for it.
    private sealed class CountingTime : FakeTimeProvider
    {
        private int _timers;

        public int Timers => Volatile.Read(ref _timers);

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            var timer = base.CreateTimer(callback, state, dueTime, period);
            Interlocked.Increment(ref _timers);
            return timer;
        }
    }
}
