using System.Net;
using System.Net.Sockets;
using Pandora.Agent.Protocol.Ports;

namespace Pandora.Tests.Ports;

/// <summary>Bytes pass between the server and a program, and each direction ends by itself.</summary>
public sealed class AgentBytesTests : IAsyncDisposable
{
    private const int Large = 64 * 1024 * 1024;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private readonly PortTalk _talk = new();
    private readonly Socket _listener = AgentConnectTests.Listen(IPAddress.Loopback);

    public ValueTask DisposeAsync()
    {
        _listener.Dispose();
        return _talk.DisposeAsync();
    }

    [Fact]
    public async Task The_end_of_the_servers_direction_is_the_programs_end_of_input_and_the_answer_still_comes()
    {
        var (wire, program) = await OpenAsync();
        await wire.SendAsync(PortMessage.Write, "question"u8.ToArray());
        await wire.SendAsync(PortMessage.EndWrite);
        Assert.Equal("question"u8.ToArray(), await ReadToEndAsync(program));
        await program.SendAsync("answer"u8.ToArray());
        program.Close();
        Assert.Equal("answer"u8.ToArray(), await wire.ReadToEndAsync());
        Assert.Null(await wire.ReadAsync());
        await _talk.WaitUntilIdleAsync();
        wire.Close();
    }

    [Fact]
    public async Task The_end_of_the_programs_direction_leaves_the_other_open()
    {
        var (wire, program) = await OpenAsync();
        program.Shutdown(SocketShutdown.Send);
        await wire.ExpectAsync(PortMessage.EndRead);
        var content = Random(1_000_000);
        var reading = ReadToEndAsync(program);
        await wire.SendAllAsync(content);
        await wire.SendAsync(PortMessage.EndWrite);
        Assert.Equal(content, await reading.WaitAsync(Patience));
        Assert.Null(await wire.ReadAsync());
        await _talk.WaitUntilIdleAsync();
        wire.Close();
    }

    [Fact]
    public async Task What_the_program_wrote_before_it_broke_the_connection_arrives_first()
    {
        var (wire, program) = await OpenAsync();
        await program.SendAsync("last words"u8.ToArray());
        await wire.ExpectAsync(PortMessage.Read);
        // Unread bytes make the kernel break the connection when the program closes it.
        await wire.SendAsync(PortMessage.Write, new byte[1000]);
        await PortTalk.WaitUntilAsync(() => program.Available == 1000);
        await program.SendAsync("refused"u8.ToArray());
        program.Close();
        Assert.Equal("refused"u8.ToArray(), await wire.ExpectAsync(PortMessage.Read));
        await wire.ExpectFailureAsync(PortFailureKind.Guest);
        await _talk.WaitUntilIdleAsync();
    }

    [Fact]
    public async Task A_connection_that_breaks_after_the_programs_end_is_told_at_the_next_byte()
    {
        var (wire, program) = await OpenAsync();
        program.Shutdown(SocketShutdown.Send);
        await wire.ExpectAsync(PortMessage.EndRead);
        program.LingerState = new LingerOption(true, 0);
        program.Close();
        await wire.SendAsync(PortMessage.Write, "anybody?"u8.ToArray());
        await wire.ExpectFailureAsync(PortFailureKind.Guest);
        await _talk.WaitUntilIdleAsync();
    }

    [Fact]
    public async Task A_connection_that_breaks_in_the_middle_of_much_is_told()
    {
        var (wire, program) = await OpenAsync();
        // More than the buffers of the kernel take, so that it is still sending when the connection breaks.
        var sending = wire.SendAllAsync(new byte[Large]);
        await PortTalk.WaitUntilAsync(() => program.Available > 0);
        program.LingerState = new LingerOption(true, 0);
        program.Close();
        await wire.ExpectFailureAsync(PortFailureKind.Guest);
        await Assert.ThrowsAnyAsync<IOException>(() => sending.WaitAsync(Patience));
        await _talk.WaitUntilIdleAsync();
    }

    [Fact]
    public async Task A_closed_stream_ends_the_programs_connection()
    {
        var (wire, program) = await OpenAsync();
        await wire.SendAsync(PortMessage.Write, "bytes"u8.ToArray());
        await PortTalk.WaitUntilAsync(() => program.Available == 5);
        wire.Close();
        Assert.Equal("bytes"u8.ToArray(), await ReadToEndAsync(program));
        await _talk.WaitUntilIdleAsync();
    }

    [Fact]
    public async Task A_stream_that_is_closed_before_all_was_sent_breaks_the_programs_connection()
    {
        var (wire, program) = await OpenAsync();
        // More than the buffers of the kernel take, so that a rest waits in the agent.
        var sending = wire.SendAllAsync(new byte[Large]);
        await Task.WhenAny(sending, Task.Delay(TimeSpan.FromMilliseconds(500), TimeProvider.System));
        Assert.False(sending.IsCompleted);
        for (var taken = 0; program.Available == 0 || program.Available != taken;)
        {
            taken = program.Available;
            await Task.Delay(TimeSpan.FromMilliseconds(500), TimeProvider.System);
        }

        wire.Close();
        var error = await Assert.ThrowsAsync<SocketException>(() => ReadToEndAsync(program).WaitAsync(Patience));
        Assert.Equal(SocketError.ConnectionReset, error.SocketErrorCode);
        await Assert.ThrowsAnyAsync<IOException>(() => sending.WaitAsync(Patience));
        await _talk.WaitUntilIdleAsync();
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public async Task Much_passes_both_ways_at_once(bool isServerSlow, bool isProgramSlow)
    {
        var (wire, program) = await OpenAsync();
        var (down, up) = (Random(Large), Random(Large / 2));
        var sending = Task.Run(async () =>
        {
            for (var rest = (ReadOnlyMemory<byte>)down; !rest.IsEmpty;)
            {
                rest = rest[await program.SendAsync(rest, SocketFlags.None)..];
            }

            program.Shutdown(SocketShutdown.Send);
        });
        var writing = Task.Run(async () =>
        {
            await wire.SendAllAsync(up);
            await wire.SendAsync(PortMessage.EndWrite);
        });
        var reading = Task.Run(async () =>
        {
            await PauseAsync(isProgramSlow);
            return await ReadToEndAsync(program);
        });
        await PauseAsync(isServerSlow);
        // A side that does not read stops the other one, so that nothing collects between them.
        Assert.False(isServerSlow && sending.IsCompleted);
        Assert.False(isProgramSlow && writing.IsCompleted);
        var (read, received) = (await wire.ReadToEndAsync().WaitAsync(Patience), await reading.WaitAsync(Patience));
        Assert.True(down.AsSpan().SequenceEqual(read));
        Assert.True(up.AsSpan().SequenceEqual(received));
        await Task.WhenAll(sending, writing).WaitAsync(Patience);
        Assert.Null(await wire.ReadAsync());
        await _talk.WaitUntilIdleAsync();
        wire.Close();

        static Task PauseAsync(bool isSlow) =>
            isSlow ? Task.Delay(TimeSpan.FromSeconds(1), TimeProvider.System) : Task.CompletedTask;
    }

    [Fact]
    public async Task A_message_that_comes_byte_by_byte_is_understood()
    {
        var (wire, program) = await OpenAsync();
        var message = PortMessages.Encode(PortMessage.Write, "slowly"u8);
        foreach (var part in message)
        {
            await wire.SendBytesAsync([part]);
        }

        await wire.SendAsync(PortMessage.EndWrite);
        Assert.Equal("slowly"u8.ToArray(), await ReadToEndAsync(program));
        wire.Close();
    }

    [Fact]
    public async Task A_message_that_cannot_come_ends_the_stream()
    {
        byte[][] bad =
        [
            PortMessages.Encode(PortMessage.Write, []),
            PortMessages.Encode(PortMessage.EndWrite, [1]),
            PortMessages.Encode(PortMessage.Read, [1]),
            PortMessages.Encode(PortMessage.Connect, new ConnectRequest(1).Encode()),
            [255, 255, 255, 255, (byte)PortMessage.Write],
            [1, 128, 0, 0, (byte)PortMessage.Write],
        ];
        foreach (var bytes in bad)
        {
            var (wire, program) = await OpenAsync();
            await wire.SendBytesAsync(bytes);
            await wire.ExpectFailureAsync(PortFailureKind.Protocol);
            try
            {
                Assert.Empty(await ReadToEndAsync(program));
            }
            catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset)
            {
                // A message was cut, so the connection is broken instead of ended.
            }
        }

        byte[][] first =
        [
            PortMessages.Encode(PortMessage.Connect, new byte[8]),
            PortMessages.Encode(PortMessage.Connect, new byte[7]),
            PortMessages.Encode(PortMessage.Connect, []),
            PortMessages.Encode(PortMessage.Write, [1]),
            PortMessages.Encode(PortMessage.List, [1]),
            PortMessages.Encode(PortMessage.Ssh, [255, 255, 255, 255, 255, 255, 255, 127]),
            PortMessages.Encode((PortMessage)255, []),
            [0, 0, 0, 128, (byte)PortMessage.Connect],
        ];
        foreach (var bytes in first)
        {
            await (await _talk.AskAsync(bytes)).ExpectFailureAsync(PortFailureKind.Protocol);
        }

        await _talk.WaitUntilIdleAsync();
    }

    private async Task<(PortWire Wire, Socket Program)> OpenAsync()
    {
        var wire = await _talk.ConnectAsync(AgentConnectTests.PortOf(_listener));
        return (wire, await _listener.AcceptAsync());
    }

    private static async Task<byte[]> ReadToEndAsync(Socket program)
    {
        using var bytes = new MemoryStream();
        var buffer = new byte[256 * 1024];
        for (int count; (count = await program.ReceiveAsync(buffer)) > 0;)
        {
            bytes.Write(buffer, 0, count);
        }

        return bytes.ToArray();
    }

    private static byte[] Random(int count)
    {
        var bytes = new byte[count];
        new Random(7).NextBytes(bytes);
        return bytes;
    }
}
