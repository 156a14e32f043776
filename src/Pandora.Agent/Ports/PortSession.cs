using Pandora.Agent.Protocol.Ports;
using Pandora.Agent.Protocol.Processes;
using Pandora.Agent.Transport;

namespace Pandora.Agent.Ports;

/// <summary>
/// One stream of the server about ports: a connection to a program of the guest, one to its SSH server, or a list. Everything runs on the
/// loop, and nothing waits. A connection on which nothing moves has no memory for bytes.
/// </summary>
internal sealed partial class PortSession
{
    private readonly byte[] _header = new byte[ProcessMessages.HeaderSize];
    private readonly AgentStream _stream;
    private readonly GuestPorts _ports;
    private Stage _stage;
    private int _headerCount, _bodyLeft;
    private byte[] _request = [], _answer = [];
    private int _answered;
    private Connector? _connector;
    private SshConnection? _ssh;
    private bool _isCounted, _isPumping;

    /// <param name="stream">The stream.</param>
    /// <param name="begun">The header of its first message, which was read already.</param>
    /// <param name="ports">What all requests share.</param>
    public PortSession(AgentStream stream, ReadOnlySpan<byte> begun, GuestPorts ports)
    {
        (_stream, _ports) = (stream, ports);
        begun.CopyTo(_header);
        _headerCount = _header.Length;
        stream.Changed = Pump;
        Pump();
    }

    private enum Stage
    {
        /// <summary>The request has not come in whole.</summary>
        Request,

        /// <summary>The connection or the list is being made.</summary>
        Waiting,

        /// <summary>Bytes pass.</summary>
        Open,

        /// <summary>The answer is the last: the stream ends after it.</summary>
        Ending,

        /// <summary>The stream has ended.</summary>
        Over,
    }

    // Takes what the server and the program sent, as far as the other side takes it.
    private void Pump()
    {
        if (_stage == Stage.Over || _isPumping)
        {
            return;
        }

        _isPumping = true;
        try
        {
            ReceiveRequest();
            PassBytes();
        }
        catch (FormatException e)
        {
            Fail(PortFailureKind.Protocol, e.Message);
        }
        catch (PortFailedException e)
        {
            Fail(e.Kind, e.Message);
        }
        catch (IOException e)
        {
            Fail(PortFailureKind.Guest, $"the agent cannot watch the connection: {e.Message}");
        }
        finally
        {
            _isPumping = false;
        }

        SendAnswer();
        if (_stage != Stage.Over && _stream.HasServerLeft)
        {
            Leave();
        }
    }

    private void ReceiveRequest()
    {
        while (_stage == Stage.Request)
        {
            // The header has come with the first call.
            var kind = (PortMessage)_header[4];
            if (_request.Length == 0)
            {
                _request = new byte[TakeLength()];
            }

            while (_bodyLeft > 0)
            {
                var count = _stream.Read(_request.AsSpan(_request.Length - _bodyLeft));
                if (count == 0)
                {
                    return;
                }

                _bodyLeft -= count;
            }

            var body = _request;
            _request = [];
            Begin(kind, body);
        }
    }

    private void Begin(PortMessage kind, byte[] body)
    {
        _stage = Stage.Waiting;
        switch (kind)
        {
            case PortMessage.Connect:
                var port = ConnectRequest.Decode(body).Port;
                Enter();
                _connector = new Connector(_ports.Loop, port, Open, f => End(PortMessages.Encode(PortMessage.Failed, f.Encode())));
                _connector.Begin(_ports.ConnectMilliseconds);
                break;
            case PortMessage.Ssh:
                var keys = SshRequest.Decode(body).Keys;
                Enter();
                _ssh = _ports.Ssh.Open(keys);
                Open(_ssh.Descriptor);
                break;
            case PortMessage.List when body.Length == 0:
                _ports.List(End);
                break;
            default:
                throw new FormatException($"a message {(int)kind} that cannot come here");
        }
    }

    private void Enter()
    {
        _ports.Enter();
        _isCounted = true;
    }

    // The socket is this session's from here on.
    private void Open(int socket)
    {
        (_socket, _stage, _connector) = (socket, Stage.Open, null);
        Answer(PortMessages.Encode(PortMessage.Opened, []));
        Pump();
    }

    // The last answer: the connection is given up at once, and the stream ends when the answer has found room.
    private void End(byte[] answer)
    {
        if (_stage is not Stage.Ending and not Stage.Over)
        {
            Release();
            _stage = Stage.Ending;
            Answer(answer);
            Pump();
        }
    }

    private void Fail(PortFailureKind kind, string reason) =>
        End(PortMessages.Encode(PortMessage.Failed, new PortFailure(kind, reason).Encode()));

    private void Answer(byte[] answer) => (_answer, _answered) = (answer, 0);

    private void SendAnswer()
    {
        while (_stage != Stage.Over && _answered < _answer.Length)
        {
            var count = Math.Min(_stream.Free, _answer.Length - _answered);
            if (count == 0)
            {
                return;
            }

            _stream.Write(_answer.AsSpan(_answered, count));
            _answered += count;
        }

        Answer([]);
        if (_stage == Stage.Ending)
        {
            Leave();
        }
    }

    private void Leave()
    {
        Release();
        _stage = Stage.Over;
        _answer = [];
        if (_stream.HasServerLeft)
        {
            // The stream is forgotten when all that came was read.
            while (_stream.Read(_ports.Scratch) > 0)
            {
            }
        }

        _stream.End();
    }

    // Gives back all that the request has: once, on every way.
    private void Release()
    {
        _connector?.GiveUp();
        CloseSocket();
        _ssh?.Release();
        (_connector, _ssh) = (null, null);
        if (_isCounted)
        {
            _isCounted = false;
            _ports.Leave();
        }
    }

    // The length of the body whose header has come.
    private int TakeLength()
    {
        var length = BitConverter.ToInt32(_header);
        if (length is < 0 or > PortMessages.MaxBody)
        {
            throw new FormatException($"a message of {length} bytes, of at most {PortMessages.MaxBody}");
        }

        _headerCount = 0;
        _bodyLeft = length;
        return length;
    }
}
