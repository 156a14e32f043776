using Microsoft.Extensions.Time.Testing;
using Pandora.Agent.Protocol.Processes;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Guests.Agent;

namespace Pandora.Tests.Guests;

/// <summary>The list of a guest's processes, and what a server does with it that adopts the guest.</summary>
public sealed class AgentGuestTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(1);
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public async Task Processes_are_listed()
    {
        var (guest, connection) = Guest((stream, kind, _) =>
        {
            Assert.Equal(ProcessMessage.List, kind);
            stream.Send(ProcessMessage.Entry, Entry("a").Encode());
            stream.Send(ProcessMessage.Entry, Entry("b", new EndReport(2, false, true, 5, 6)).Encode());
            stream.End();
        });
        var processes = await guest.ListAsync(default);
        Assert.Equal(["a", "b"], processes.Select(p => p.Id));
        Assert.Equal(DateTimeOffset.UnixEpoch.AddSeconds(1), processes[0].StartedAt);
        Assert.Equal((7, "tag", "command", null), (processes[0].Pid, processes[0].Tag, processes[0].Command, processes[0].End));
        Assert.Equal(new ProcessEnd(2) { OomLimit = 5, HasLeftovers = true, Offset = 6 }, processes[1].End);
        Assert.True(connection.Last.IsClosed);
    }

    [Theory]
    [InlineData(10_000, true)]
    [InlineData(10_001, false)]
    public async Task A_list_has_a_bound(int count, bool isRead)
    {
        var (guest, connection) = Guest((stream, _, _) =>
        {
            for (var i = 0; i < count; i++)
            {
                stream.Send(ProcessMessage.Entry, Entry($"{i}").Encode());
            }

            stream.End();
        });
        if (isRead)
        {
            Assert.Equal(count, (await guest.ListAsync(default)).Count);
        }
        else
        {
            await Assert.ThrowsAsync<PandoraException>(() => guest.ListAsync(default));
        }

        Assert.True(connection.Last.IsClosed);
    }

    [Fact]
    public async Task A_list_of_few_long_entries_has_a_bound_too()
    {
        var sent = 0;
        var (guest, connection) = Guest((stream, _, _) =>
            stream.Flood = ProcessMessages.Encode(
                ProcessMessage.Entry, (Entry($"{sent++}") with { Command = new string('x', 65_000) }).Encode()));
        await Assert.ThrowsAsync<PandoraException>(() => Task.Run(() => guest.ListAsync(default)).WaitAsync(Patience));
        Assert.True(connection.Last.IsClosed);
    }

    [Theory]
    [InlineData("another message")]
    [InlineData("a cut entry")]
    [InlineData("a long entry")]
    [InlineData("a break")]
    [InlineData("no stream")]
    public async Task A_list_that_cannot_be_is_an_error(string what)
    {
        var (guest, connection) = Guest((stream, _, _) =>
        {
            switch (what)
            {
                case "another message": stream.Started(); break;
                case "a cut entry": stream.Send(ProcessMessage.Entry, Entry("a").Encode()[..^1]); break;
                case "a long entry": stream.SendRaw([1, 0, 1, 0, 12]); break;
                default: stream.Fail("it broke"); break;
            }
        });
        connection.Refusal = what == "no stream" ? what : null;
        var e = await Assert.ThrowsAsync<PandoraException>(() => guest.ListAsync(default).WaitAsync(Patience));
        Assert.Equal(PandoraError.GuestUnreachable, e.Error);
        Assert.All(connection.Streams, s => Assert.True(s.IsClosed));
    }

    [Fact]
    public async Task A_list_is_waited_for_ten_seconds_or_as_long_as_its_caller_waits()
    {
        var (guest, connection) = Guest((_, _, _) => { });
        var listing = guest.ListAsync(default);
        _time.Advance(TimeSpan.FromSeconds(9.9));
        Assert.False(listing.IsCompleted);
        _time.Advance(TimeSpan.FromSeconds(0.1));
        await Assert.ThrowsAsync<PandoraException>(() => listing.WaitAsync(Patience));
        Assert.True(connection.Last.IsClosed);

        using var cancelled = new CancellationTokenSource();
        listing = guest.ListAsync(cancelled.Token);
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => listing.WaitAsync(Patience));
        Assert.True(connection.Last.IsClosed);
    }

    private (AgentGuest Guest, ScriptedConnection Connection) Guest(Action<ScriptedStream, ProcessMessage, byte[]> answer)
    {
        var connection = new ScriptedConnection(answer);
        return (new AgentGuest(connection, ExecWay.Agent, _time), connection);
    }

    private static ProcessEntry Entry(string id, EndReport? end = null) => new(id, 7, "tag", "command", 1_000_000_000, default, end);
}
