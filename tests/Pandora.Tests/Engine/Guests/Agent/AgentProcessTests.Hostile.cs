using Pandora.Agent.Protocol.Processes;
using Pandora.Engine;
using Pandora.Engine.Guests;

namespace Pandora.Tests.Guests;

/// <content>Agents that send what cannot be.</content>
public sealed partial class AgentProcessTests
{
    [Theory]
    [InlineData("output before started")]
    [InlineData("started twice")]
    [InlineData("short started")]
    [InlineData("two ends")]
    [InlineData("output after the end")]
    [InlineData("end before started")]
    [InlineData("short end")]
    [InlineData("third output")]
    [InlineData("empty output")]
    [InlineData("output before the first byte")]
    [InlineData("output after the last byte")]
    [InlineData("killed without a kill")]
    [InlineData("failed after started")]
    [InlineData("short failure")]
    [InlineData("five gibibytes")]
    [InlineData("negative length")]
    [InlineData("a request")]
    [InlineData("entry")]
    [InlineData("taken too much")]
    [InlineData("taken backwards")]
    [InlineData("nothing")]
    public async Task Messages_that_cannot_be_end_the_process_for_the_server(string what)
    {
        var (guest, connection) = Guest((stream, kind, _) =>
        {
            if (kind == ProcessMessage.Kill)
            {
                return;
            }

            if (!what.EndsWith("before started", StringComparison.Ordinal) && !what.StartsWith("short", StringComparison.Ordinal))
            {
                stream.Started();
            }

            // The end comes after a kill was asked for, so that the process goes on for the server.
            switch (what)
            {
                case "output before started": stream.Output(0, 1, 1); break;
                case "started twice": stream.Started(); break;
                case "short started": stream.Send(ProcessMessage.Started, 1); break;
                case "two ends" or "output after the end": break;
                case "end before started": stream.Ended(0, 0); break;
                case "short end": stream.Started(); stream.Send(ProcessMessage.Ended, 1, 2); break;
                case "third output": stream.Output(0, 3, 1); break;
                case "empty output": stream.Output(0, 1); break;
                case "output before the first byte": stream.Output(-1, 1, 1); break;
                case "output after the last byte": stream.Output(long.MaxValue, 1, 1); break;
                case "killed without a kill": stream.Send(ProcessMessage.Killed, 7); break;
                case "failed after started":
                    stream.Send(ProcessMessage.Failed, new FailureReport(FailureKind.User, "x").Encode()); break;
                case "short failure": stream.Send(ProcessMessage.Failed, 1); break;
                case "five gibibytes": stream.SendRaw([0, 0, 0, 0x40, 4, .. new byte[1000]]); break;
                case "negative length": stream.SendRaw([0xFF, 0xFF, 0xFF, 0xFF, 4]); break;
                case "a request": stream.Send(ProcessMessage.Start, 1); break;
                case "entry": stream.Send(ProcessMessage.Entry); break;
                case "taken too much": stream.Taken(long.MaxValue); break;
                case "taken backwards": stream.Taken(-1); break;
                default: stream.Send(0); break;
            }
        });
        var e = await Assert.ThrowsAsync<PandoraException>(async () =>
        {
            await using var process = await guest.StartAsync(new ProcessSpec { Code = "x" }, default);
            if (what is "two ends" or "output after the end")
            {
                var killing = process.KillAsync();
                connection.Last.Ended(0, 0);
                if (what == "two ends")
                {
                    connection.Last.Ended(0, 0);
                }
                else
                {
                    connection.Last.Output(0, 1, 1);
                }

                var stop = await killing.WaitAsync(Patience);
                Assert.Equal((CommandOutcome.Unknown, false), (stop.Outcome, stop.HasAnswered));
            }

            await ReadAllAsync(process).WaitAsync(Patience);
        });
        Assert.Equal((PandoraError.GuestUnreachable, CommandOutcome.Unknown), (e.Error, e.Command));
        Assert.True(connection.Last.IsClosed);
    }
}
