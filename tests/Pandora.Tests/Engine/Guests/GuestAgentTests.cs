using System.Diagnostics.CodeAnalysis;
using System.IO.Pipes;
using Microsoft.Extensions.Time.Testing;
using Pandora.Agent.Protocol;
using Pandora.Engine.Guests;
using Pandora.Fakes;
using Pandora.Vmm;

namespace Pandora.Tests.Guests;

/// <summary>The server's end of the agent connection: the real code against a hostile agent.</summary>
public sealed class GuestAgentTests
{
    private readonly FakeTimeProvider _time = new();

    // Keeps the streams of guests that wait for ever from being collected.
    private readonly List<Stream> _ends = [];

    [Fact]
    public async Task An_answer_is_found_after_other_messages()
    {
        await using var agent = Connect(async guest =>
        {
            await guest.SendAsync(AgentMessage.Ready, 0);
            var ping = await guest.ReadAsync();
            await guest.SendAsync(AgentMessage.Pong, ping.Id - 1, "late"u8.ToArray());
            await guest.SendAsync(AgentMessage.Pong, ping.Id, ping.Body.ToArray());
        });
        await agent.PingAsync("hello"u8.ToArray(), default);
    }

    [Fact]
    public async Task A_resume_carries_the_identity_of_the_microVM()
    {
        var identity = GuestIdentity.Create("abcdefghijkl");
        ResumeBody? sent = null;
        await using var agent = Connect(async guest =>
        {
            var resume = await guest.ReadAsync();
            sent = ResumeBody.Decode(resume.Body.Span);
            await guest.SendAsync(AgentMessage.Resumed, resume.Id);
        });
        await agent.ResumeAsync(identity, hasStreams: true, default);
        Assert.Equal((identity.Hostname, identity.MachineId), (sent!.Hostname, sent.MachineId));
        Assert.Equal("pandora-efghijkl", sent.Hostname);
        Assert.Matches("^[0-9a-f]{32}$", sent.MachineId);
        Assert.Equal(identity.HostKeyFile, sent.HostKey);
        Assert.Equal(identity.Secret, sent.Secret);
        Assert.Equal((64, 32), (sent.Seed.Length, sent.Secret.Length));
        Assert.Equal((_time.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks * 100, sent.UnixNanoseconds);
    }

    [Theory]
    [InlineData(2_000, 2_000)]
    [InlineData(-86_400_000, -86_400_000)]
    [InlineData(4, 0)] // The difference is within the accuracy, so the clock is not shifted.
    public async Task A_clock_is_shifted_by_the_difference_in_the_fastest_answer(int behindMs, int shiftedMs)
    {
        var (tries, shifted) = (0, 0L);
        var behind = behindMs * 1_000_000L;
        await using var agent = Connect(async guest =>
        {
            while (true)
            {
                var question = await guest.ReadAsync();
                if (question.Message == AgentMessage.ShiftClock)
                {
                    shifted = AgentProtocol.DecodeNanoseconds(question.Body.Span);
                    await guest.SendAsync(AgentMessage.ClockShifted, question.Id);
                    continue;
                }

                // All the time passes before the guest reads its clock. The third try is a fast one.
                _time.Advance(TimeSpan.FromMilliseconds(++tries == 3 ? 4 : 80));
                await guest.SendAsync(
                    AgentMessage.Clock,
                    question.Id,
                    AgentProtocol.EncodeNanoseconds(((_time.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks * 100) - behind));
            }
        });
        Assert.Equal(TimeSpan.FromMilliseconds(behindMs - 2), await agent.SetClockAsync(default));
        Assert.Equal(3, tries);
        Assert.Equal(shiftedMs == 0 ? 0 : (shiftedMs - 2) * 1_000_000L, shifted);
    }

    [Fact]
    public async Task On_a_busy_host_a_clock_is_read_at_most_ten_times()
    {
        var tries = 0;
        await using var agent = Connect(async guest =>
        {
            while (true)
            {
                var question = await guest.ReadAsync();
                _time.Advance(TimeSpan.FromMilliseconds(60 - tries++));
                await guest.SendAsync(
                    AgentMessage.Clock,
                    question.Id,
                    AgentProtocol.EncodeNanoseconds((_time.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks * 100));
            }
        });
        // The last answer was the fastest, and its difference is still below its accuracy.
        Assert.Equal(TimeSpan.FromMilliseconds(-25.5), await agent.SetClockAsync(default));
        Assert.Equal(10, tries);
    }

    [Fact]
    public async Task A_guest_whose_every_answer_is_late_is_given_up_after_the_answer_limit()
    {
        await using var agent = Connect(async guest =>
        {
            while (true)
            {
                var question = await guest.ReadAsync();
                _time.Advance(GuestAgent.AnswerLimit - TimeSpan.FromSeconds(3));
                await guest.SendAsync(AgentMessage.Clock, question.Id, AgentProtocol.EncodeNanoseconds(0));
            }
        });
        Assert.Contains("within 10 s", (await Assert.ThrowsAsync<VmmException>(() => agent.SetClockAsync(default))).Message);
    }

    [Fact]
    public async Task An_agent_that_never_answers_is_given_up_after_the_answer_limit()
    {
        await using var agent = Connect(guest => Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System));
        var asking = agent.PingAsync(default, default);
        await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System);
        Assert.False(asking.IsCompleted);
        _time.Advance(GuestAgent.AnswerLimit);
        Assert.Contains("did not answer within 10 s", (await Assert.ThrowsAsync<VmmException>(() => asking)).Message);
    }

    [Fact]
    public async Task An_agent_that_reads_nothing_blocks_no_caller()
    {
        await using var agent = Connect(guest => Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System));
        // More bytes than a socket holds: the last questions wait while writing, each for the one before it.
        var asking = Enumerable.Range(0, 100).Select(_ => agent.PingAsync(new byte[AgentProtocol.MaxBody], default)).ToList();
        foreach (var question in asking)
        {
            await FakeNode.UntilAsync(() =>
            {
                _time.Advance(GuestAgent.AnswerLimit);
                return question.IsCompleted;
            });
            await Assert.ThrowsAsync<VmmException>(() => question);
        }
    }

    [Fact]
    public Task Garbage_is_refused_at_once() =>
        RefusedAsync(guest => AnswerAsync(guest, "\x7F\x45LF, and much more of it"u8.ToArray()), "not a frame of the protocol");

    [Fact]
    public Task A_length_over_the_limit_is_refused_before_memory_is_allocated() =>
        RefusedAsync(guest => AnswerAsync(guest, Convert.FromHexString("504E4441010200000000FFFFFF7F")), "not a frame of the protocol");

    [Fact]
    public Task A_flood_is_refused_after_a_limit_of_bytes() => RefusedAsync(
        async guest =>
        {
            while (true)
            {
                await guest.SendAsync(AgentMessage.Pong, 1, new byte[AgentProtocol.MaxBody]);
            }
        }, "sends without being asked");

    [Fact]
    public Task An_answer_of_another_kind_is_refused() =>
        RefusedAsync(async guest => await guest.SendAsync(AgentMessage.Resumed, (await guest.ReadAsync()).Id), "answered Ping with 4");

    [Fact]
    public Task A_pong_with_another_body_is_refused() =>
        RefusedAsync(
            async guest => await guest.SendAsync(AgentMessage.Pong, (await guest.ReadAsync()).Id, [1]), "answered a ping with other bytes");

    [Fact]
    public Task The_text_of_a_failure_cannot_forge_a_log_line() =>
        RefusedAsync(
            async guest =>
                await guest.SendAsync(
                    AgentMessage.Failed, (await guest.ReadAsync()).Id, "no\r\n\u001b[31m12:00 info forged\u0007"u8.ToArray()),
            "could not: no...[31m12:00 info forged.");

    [Fact]
    public async Task An_agent_that_closes_the_connection_is_connected_to_again()
    {
        var connections = 0;
        await using var agent = Connect(async guest =>
        {
            var ping = await guest.ReadAsync();
            if (++connections > 1)
            {
                await guest.SendAsync(AgentMessage.Pong, ping.Id, ping.Body.ToArray());
            }
        });
        Assert.Contains("closed the connection", (await Assert.ThrowsAsync<VmmException>(() => agent.PingAsync(default, default))).Message);
        await agent.PingAsync(default, default);
        Assert.Equal(2, connections);
    }

    [Fact]
    public async Task A_machine_without_the_device_is_an_error_that_says_so()
    {
        await using var machine = new FakeMachine("x");
        await using var agent = new GuestAgent(machine, _time);
        Assert.Contains(
            "no device for the agent", (await Assert.ThrowsAsync<VmmException>(() => agent.PingAsync(default, default))).Message);
    }

    [Fact]
    public async Task A_caller_can_cancel_a_question()
    {
        using var stop = new CancellationTokenSource();
        await using var agent = Connect(guest => Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System));
        var asking = agent.PingAsync(default, stop.Token);
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => asking);
    }

    // After the question: a guest that leaves before it cannot be asked.
    private static async Task AnswerAsync(Guest guest, byte[] bytes)
    {
        await guest.ReadAsync();
        await guest.SendAsync(bytes);
    }

    private async Task RefusedAsync(Func<Guest, Task> behave, string words)
    {
        await using var agent = Connect(behave);
        Assert.Contains(words,
            (await Assert.ThrowsAnyAsync<VmmException>(() => agent.PingAsync(default, default).WaitAsync(TimeSpan.FromMinutes(1))))
            .Message);
    }

    [SuppressMessage("Reliability", "CA2000", Justification = "a FakeMachine holds nothing to free")]
    private GuestAgent Connect(Func<Guest, Task> behave) =>
        new(new FakeMachine("x") { Agent = () => Guest.Start(behave, _ends.Add) }, _time);

    /// <summary>The guest's end of a connection, which does what a test wants.</summary>
    private sealed class Guest(Stream stream)
    {
        [SuppressMessage("Reliability", "CA2000", Justification = "the task that plays the guest disposes the server's end")]
        public static Stream Start(Func<Guest, Task> behave, Action<Stream> keep)
        {
            var name = $"pandora-test-{Path.GetRandomFileName()}";
            var server = new NamedPipeServerStream(name, PipeDirection.InOut, 1, PipeTransmissionMode.Byte, PipeOptions.Asynchronous);
            var client = new NamedPipeClientStream(".", name, PipeDirection.InOut, PipeOptions.Asynchronous);
            keep(server);
            _ = Task.Run(async () =>
            {
                await using (server)
                {
                    await server.WaitForConnectionAsync();
                    try
                    {
                        await behave(new Guest(server));
                    }
                    catch (IOException)
                    {
                        // The server closed its end.
                    }
                }
            });
            client.Connect(10_000);
            return client;
        }

        public async Task<AgentFrame> ReadAsync()
        {
            var header = new byte[AgentProtocol.HeaderSize];
            await stream.ReadExactlyAsync(header);
            var body = new byte[BitConverter.ToInt32(header, 10)];
            await stream.ReadExactlyAsync(body);
            Assert.Equal(header.Length + body.Length, AgentProtocol.Decode([.. header, .. body], out var frame));
            return frame;
        }

        public Task SendAsync(AgentMessage message, uint id, byte[]? body = null) =>
            SendAsync(AgentProtocol.Encode(message, id, body ?? []));

        public async Task SendAsync(byte[] bytes) => await stream.WriteAsync(bytes);
    }
}
