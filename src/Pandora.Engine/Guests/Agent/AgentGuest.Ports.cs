using System.Buffers.Binary;
using System.Net;
using Pandora.Agent.Protocol.Files;
using Pandora.Agent.Protocol.Ports;
using Pandora.Agent.Protocol.Processes;
using Pandora.Engine.Guests.Ports;

namespace Pandora.Engine.Guests.Agent;

/// <content>Ports of the guest, and its SSH server.</content>
internal sealed partial class AgentGuest
{
    // Characters of a program's name, of which the kernel has 15: prctl(2), PR_SET_NAME.
    private const int MostProgram = 64;

    /// <inheritdoc/>
    public async Task<GuestStream> ConnectAsync(int port, CancellationToken cancellationToken) =>
        await OpenPortAsync(PortMessages.Encode(PortMessage.Connect, new ConnectRequest(port).Encode()), cancellationToken);

    /// <inheritdoc/>
    public async Task<GuestStream> OpenSshAsync(IReadOnlyList<string> keys, CancellationToken cancellationToken) =>
        await OpenPortAsync(PortMessages.Encode(PortMessage.Ssh, new SshRequest(keys).Encode()), cancellationToken);

    /// <inheritdoc/>
    public Task<IReadOnlyList<GuestPort>> ListPortsAsync(CancellationToken cancellationToken) => AskPortAsync(
        PortMessages.Encode(PortMessage.List, []),
        async (stream, stop) =>
        {
            try
            {
                return await ReadListAsync(stream, stop);
            }
            finally
            {
                stream.Close(mustForget: false);
            }
        },
        cancellationToken);

    private Task<AgentPortStream> OpenPortAsync(byte[] request, CancellationToken cancellationToken) => AskPortAsync(
        request,
        async (stream, stop) =>
        {
            try
            {
                // The bytes that follow are not read yet: they belong to the connection.
                var header = new byte[ProcessMessages.HeaderSize];
                await ReadExactlyAsync(stream, header, stop);
                var (kind, length) = ((PortMessage)header[4], BinaryPrimitives.ReadInt32LittleEndian(header));
                if (kind == PortMessage.Opened && length == 0)
                {
                    return new AgentPortStream(stream, time);
                }

                if (length is < 0 or > PortMessages.MaxBody)
                {
                    throw new FormatException($"a message of {length} bytes");
                }

                var body = new byte[length];
                await ReadExactlyAsync(stream, body, stop);
                throw Refusal(kind, body);
            }
            catch
            {
                stream.Close(mustForget: false);
                throw;
            }
        },
        cancellationToken);

    private async Task<T> AskPortAsync<T>(
        byte[] request, Func<AgentStream, CancellationToken, Task<T>> read, CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(AnswerLimit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        try
        {
            return await read(await connection.OpenAsync(request, linked.Token), linked.Token);
        }
        catch (Exception e) when (e is IOException or FormatException
            || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            throw new PandoraException(
                PandoraError.GuestUnreachable,
                e is OperationCanceledException
                    ? $"the guest's agent did not answer within {AnswerLimit.TotalSeconds:0} s"
                    : $"the guest's agent does not answer ({GuestText.Printable(e.Message)})",
                innerException: e)
            {
                HasGuestWords = e is not OperationCanceledException,
            };
        }
    }

    private static async Task<IReadOnlyList<GuestPort>> ReadListAsync(AgentStream stream, CancellationToken cancellationToken)
    {
        var parser = new MessageParser(PortMessages.MaxBody);
        List<GuestPort> ports = [];
        while (true)
        {
            while (parser.TryRead(out var kind, out var body))
            {
                switch ((PortMessage)kind)
                {
                    case PortMessage.Entry when ports.Count < PortMessages.MaxListed:
                        ports.Add(ToPort(PortEntry.Decode(body.Span)));
                        break;
                    case PortMessage.Done:
                        return ports;
                    default:
                        throw Refusal((PortMessage)kind, body.Span);
                }
            }

            var count = await stream.ReadAsync(parser.Room, cancellationToken);
            parser.Received(count > 0 ? count : throw new IOException("it closed the stream"));
        }
    }

    private static GuestPort ToPort(PortEntry entry) => new(
        entry.Port, new IPAddress(entry.Address), entry.Pid > 0 ? entry.Pid : null,
        entry.Program.Length > 0 ? GuestText.Printable(entry.Program[..Math.Min(entry.Program.Length, MostProgram)]) : null);

    private static PandoraException Refusal(PortMessage kind, ReadOnlySpan<byte> body)
    {
        // An agent that knows files takes the request for one about files, and an older one for one about processes.
        if ((ProcessMessage)kind == ProcessMessage.Failed || (FileMessage)kind == FileMessage.Failed)
        {
            return new(PandoraError.PortsUnsupported, "the sandbox's agent is older than this server, and can do nothing with ports");
        }

        if (kind != PortMessage.Failed)
        {
            throw new FormatException($"a message {(int)kind}");
        }

        var failure = PortFailure.Decode(body);
        var reason = GuestText.Printable(failure.Reason);
        return failure.Kind switch
        {
            PortFailureKind.Closed or PortFailureKind.Guest => PandoraException.OfGuest(PandoraError.PortClosed, reason),
            PortFailureKind.Timeout => PandoraException.OfGuest(PandoraError.PortTimeout, reason),
            PortFailureKind.TooMany => PandoraException.OfGuest(PandoraError.TooManyConnections, reason),
            PortFailureKind.NoSshServer => PandoraException.OfGuest(PandoraError.SshUnsupported, reason),
            _ => PandoraException.OfGuest(PandoraError.GuestUnreachable, $"the guest's agent refused the request: {reason}"),
        };
    }

    private static async Task ReadExactlyAsync(AgentStream stream, Memory<byte> bytes, CancellationToken cancellationToken)
    {
        for (var count = 0; count < bytes.Length;)
        {
            var read = await stream.ReadAsync(bytes[count..], cancellationToken);
            count += read > 0 ? read : throw new IOException("it closed the stream");
        }
    }
}
