using Pandora.Agent.Protocol.Channel;
using Pandora.Agent.Protocol.Ports;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Tests.Fuzz;

/// <content>The channel to a guest's agent, and the messages on its streams.</content>
public sealed partial class FuzzTests
{
    [Fact]
    public Task Messages_about_processes_are_understood_or_refused() => FuzzAsync(
        [
            [
                .. ProcessMessages.Encode(ProcessMessage.Start, new StartRequest
                {
                    Id = "abcdefghijklmnop",
                    Code = "echo hello",
                    Arguments = ["a", "b"],
                    Environment = ["A", "1", "B", ""],
                    User = "nobody",
                }.Encode()),
                .. ProcessMessages.Encode(ProcessMessage.Input, "input"u8),
            ],
            ProcessMessages.Encode(ProcessMessage.Attach, new AttachRequest("abcdefghijklmnop", -1).Encode()),
            [
                .. ProcessMessages.Encode(
                    ProcessMessage.Started, new StartedReport(7, new ProcessFacts(true, false, true, true, 0, 5, 7)).Encode()),
                .. ProcessMessages.Encode(ProcessMessage.Output, new byte[20]),
                .. ProcessMessages.Encode(ProcessMessage.Ended, new EndReport(1, true, false, 4096, 20).Encode()),
            ],
            ProcessMessages.Encode(ProcessMessage.Failed, new FailureReport(FailureKind.User, "there is no such user").Encode()),
            ProcessMessages.Encode(ProcessMessage.Entry, new ProcessEntry(
                "abcdefghijklmnop", 77, "tag", "sleep 5", 1, new ProcessFacts(true, false, true, true, 0, 5, 7),
                new EndReport(0, false, true, 0, 5)).Encode()),
        ],
        bytes => Parse(bytes, Decode));

    [Fact]
    public Task Messages_about_ports_are_understood_or_refused() => FuzzAsync(
        [
            PortMessages.Encode(PortMessage.Connect, new ConnectRequest(8080).Encode()),
            PortMessages.Encode(PortMessage.Ssh, new SshRequest(["ssh-ed25519 AAAA a", "ssh-ed25519 BBBB"]).Encode()),
            PortMessages.Encode(PortMessage.Entry, new PortEntry(8080, [127, 0, 0, 1], 77, "node").Encode()),
            PortMessages.Encode(PortMessage.Failed, new PortFailure(PortFailureKind.Closed, "no program listens").Encode()),
        ],
        bytes => Parse(bytes, (kind, body) => (PortMessage)kind switch
        {
            PortMessage.Connect => ConnectRequest.Decode(body),
            PortMessage.Ssh => SshRequest.Decode(body),
            PortMessage.Entry => PortEntry.Decode(body),
            _ => PortFailure.Decode(body),
        }));

    [Fact]
    public Task Bytes_of_a_channel_are_frames_or_skipped()
    {
        var streams = new ChannelHello(5, 3, [new ChannelHello.Entry(1, 10, false)]).Encode();
        return FuzzAsync(
            [
                [
                    .. Wire(new ChannelFrame(FrameKind.Started, 0, 0, 0, default)),
                    .. Wire(new ChannelFrame(FrameKind.Hello, 7, 0, 0, streams)),
                    .. Wire(new ChannelFrame(FrameKind.Welcome, 7, 0, 0, streams)),
                    .. Wire(new ChannelFrame(FrameKind.Open, 7, 2, 0, "request"u8.ToArray())),
                    .. Wire(new ChannelFrame(FrameKind.Data, 7, 1, 0, "data"u8.ToArray())),
                    .. Wire(new ChannelFrame(FrameKind.End, 7, 1, 4, default)),
                    .. Wire(new ChannelFrame(FrameKind.Reset, 7, 1, 0, "why"u8.ToArray())),
                    .. Wire(new ChannelFrame(FrameKind.Quiesce, 7, 0, 1, default)),
                ],
            ],
            bytes =>
            {
                foreach (var isHost in new[] { true, false })
                {
                    var (end, reader) = (new ChannelEnd(isHost, window: 100), new FrameReader());
                    if (isHost)
                    {
                        end.Connect(7);
                        end.Open("x"u8);
                    }

                    bytes.CopyTo(reader.Room.Span);
                    reader.Received(bytes.Length);
                    while (reader.TryRead(out var frame))
                    {
                        end.Receive(frame);
                        end.TryNext(out _);
                    }

                    Assert.True(reader.Room.Length > 0);
                }

                return Task.CompletedTask;
            });
    }

    private static Task Parse(byte[] bytes, Func<ProcessMessage, ReadOnlySpan<byte>, object> decode)
    {
        var parser = new MessageParser(ProcessMessages.MaxBody);
        try
        {
            for (var at = 0; at < bytes.Length;)
            {
                var room = parser.Room.Span;
                var count = Math.Min(room.Length, bytes.Length - at);
                bytes.AsSpan(at, count).CopyTo(room);
                parser.Received(count);
                at += count;
                while (parser.TryRead(out var kind, out var body))
                {
                    decode(kind, body.Span);
                }
            }
        }
        catch (FormatException)
        {
            // The other end gives the stream up.
        }

        return Task.CompletedTask;
    }

    private static byte[] Wire(ChannelFrame frame)
    {
        var wire = new byte[frame.Size];
        frame.Write(wire);
        return wire;
    }

    private static object Decode(ProcessMessage kind, ReadOnlySpan<byte> body) => kind switch
    {
        ProcessMessage.Start => StartRequest.Decode(body),
        ProcessMessage.Attach => AttachRequest.Decode(body),
        ProcessMessage.Ended => EndReport.Decode(body),
        ProcessMessage.Started => StartedReport.Decode(body),
        ProcessMessage.Failed => FailureReport.Decode(body),
        _ => ProcessEntry.Decode(body),
    };
}
