using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Agent;
using Pandora.Agent.Ports;
using Pandora.Agent.Protocol.Ports;
using Pandora.Agent.Protocol.Processes;
using Pandora.Engine.Guests.Agent;
using Pandora.Fakes;

namespace Pandora.Tests.Ports;

/// <summary>The server's end of a channel to the agent's real code for ports.</summary>
internal sealed class PortTalk : IAsyncDisposable
{
    private readonly ChannelConnection _connection;
    private volatile GuestPorts? _ports;

    /// <param name="make">Makes what serves the requests; null for one without an SSH server.</param>
    public PortTalk(Func<EventLoop, GuestPorts>? make = null)
    {
        Assert.SkipWhen(make is not null && IsProgram, "the agent is a program, whose limits cannot be set");
        _connection = new ChannelConnection(
            AgentFiles.Connect(loop => _ports = make is null ? new GuestPorts(loop, NoSsh(loop)) : make(loop)),
            "test", TimeProvider.System, NullLogger.Instance);
    }

    /// <summary>Whether the agent is a program of its own, so that nothing in it can be looked at.</summary>
    public static bool IsProgram => Environment.GetEnvironmentVariable("PANDORA_TEST_AGENT") is { Length: > 0 };

    /// <summary>What serves the requests, once the agent runs in this process.</summary>
    public GuestPorts Ports => _ports!;

    /// <summary>A guest without an SSH server.</summary>
    public static SshServer NoSsh(EventLoop loop) => new(loop, new SshFiles { Program = "/nonexistent/sshd" }, AgentSsh.Start);

    public ValueTask DisposeAsync() => _connection.DisposeAsync();

    /// <summary>Asks for a connection, and does not wait for the answer.</summary>
    public Task<PortWire> AskAsync(int port) => AskAsync(PortMessage.Connect, new ConnectRequest(port).Encode());

    /// <summary>Sends the first message of a stream.</summary>
    public async Task<PortWire> AskAsync(PortMessage kind, byte[] body) =>
        new(await _connection.OpenAsync(PortMessages.Encode(kind, body), default));

    /// <summary>Sends any bytes as the first of a stream.</summary>
    public async Task<PortWire> AskAsync(byte[] bytes) => new(await _connection.OpenAsync(bytes, default));

    /// <summary>Opens a connection, which must succeed.</summary>
    public async Task<PortWire> ConnectAsync(int port)
    {
        var wire = await AskAsync(port);
        await wire.ExpectAsync(PortMessage.Opened);
        return wire;
    }

    /// <summary>Waits until the agent has no connection any more, and no SSH server.</summary>
    public Task WaitUntilIdleAsync() => WaitUntilAsync(() => IsProgram || Ports is { Connections: 0, Ssh.Lingering: 0 });

    public static async Task WaitUntilAsync(Func<bool> isTrue)
    {
        for (var i = 0; i < 20_000 && !isTrue(); i++)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
        }

        Assert.True(isTrue());
    }
}

/// <summary>One stream about ports, as the server sees it.</summary>
internal sealed class PortWire(AgentStream stream)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private readonly MessageParser _parser = new(PortMessages.MaxBody);

    public void Close() => stream.Close(mustForget: false);

    public Task SendAsync(PortMessage kind, ReadOnlyMemory<byte> body = default) =>
        stream.WriteAsync(PortMessages.Encode(kind, body.Span), default).AsTask();

    public Task SendBytesAsync(byte[] bytes) => stream.WriteAsync(bytes, default).AsTask();

    /// <summary>Sends many bytes in messages of the greatest size.</summary>
    public async Task SendAllAsync(ReadOnlyMemory<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            var part = bytes[..Math.Min(bytes.Length, PortMessages.MaxBody)];
            await SendAsync(PortMessage.Write, part);
            bytes = bytes[part.Length..];
        }
    }

    /// <summary>The next message; null at the stream's end.</summary>
    public async Task<(PortMessage Kind, byte[] Body)?> ReadAsync()
    {
        while (true)
        {
            if (_parser.TryRead(out var kind, out var body))
            {
                return ((PortMessage)kind, body.ToArray());
            }

            var count = await stream.ReadAsync(_parser.Room, default).AsTask().WaitAsync(Patience);
            if (count == 0)
            {
                return null;
            }

            _parser.Received(count);
        }
    }

    /// <summary>The next message, which must be of a kind.</summary>
    public async Task<byte[]> ExpectAsync(PortMessage kind)
    {
        var message = await ReadAsync();
        Assert.True(message is not null, $"the stream has ended, and did not bring {kind}");
        Assert.True(kind == message.Value.Kind, $"{message.Value.Kind} instead of {kind}: {Describe(message.Value)}");
        return message.Value.Body;
    }

    /// <summary>The failure that must come next, and the end after it.</summary>
    public async Task<PortFailure> ExpectFailureAsync(PortFailureKind kind)
    {
        var failure = PortFailure.Decode(await ExpectAsync(PortMessage.Failed));
        Assert.True(kind == failure.Kind, $"{failure.Kind}: {failure.Reason}");
        Assert.Null(await ReadAsync());
        Close();
        return failure;
    }

    /// <summary>The bytes of the program, to the end of its direction.</summary>
    public async Task<byte[]> ReadToEndAsync()
    {
        using var bytes = new MemoryStream();
        while (await ReadAsync() is { } message && message.Kind != PortMessage.EndRead)
        {
            Assert.True(message.Kind == PortMessage.Read, Describe(message));
            Assert.InRange(message.Body.Length, 1, PortMessages.MaxBody);
            bytes.Write(message.Body);
        }

        return bytes.ToArray();
    }

    private static string Describe((PortMessage Kind, byte[] Body) message) =>
        message.Kind == PortMessage.Failed ? PortFailure.Decode(message.Body).Reason : $"{message.Kind}";
}
