using Pandora.Agent.Protocol.Ports;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Ports;

/// <content>
/// Passes the bytes of an open connection: (1) a rest that the program had no room for, (2) the server's bytes, (3) the program's bytes,
/// (4) what is waited for. Each direction stops when its target has no room, so that the kernel makes the source wait, too.
/// </content>
internal sealed partial class PortSession
{
    // Less would be sent in many small messages. A stream tells of room when it had less than this.
    private const int LeastRoom = 16 * 1024;

    // Then others have their turn.
    private const int MostAtOnce = 512 * 1024;
    private int _socket = -1;
    private byte[]? _rest;
    private int _restBegin;
    private uint _watched;
    private bool _canReceive = true, _hasSentEnd, _hasReceivedEnd, _hasReceived, _isCut;

    private void PassBytes()
    {
        if (_stage != Stage.Open || _answered < _answer.Length)
        {
            // The other end must learn first that the connection is open.
            SendAnswer();
        }

        if (_stage == Stage.Open && _answered == _answer.Length)
        {
            SendRest();
            TakeFromServer();
            TakeFromProgram();
            if (_isCut && _hasReceivedEnd)
            {
                throw new PortFailedException(PortFailureKind.Guest, "the program broke the connection");
            }
        }

        if (_stage == Stage.Open)
        {
            if (_hasSentEnd && _hasReceivedEnd && _rest is null)
            {
                Leave();
                return;
            }

            Watch();
        }
    }

    private void OnReady(uint events)
    {
        // An error or a hang-up shows itself in the next call.
        _canReceive |= (events & ~Linux.EpollOut) != 0;
        Pump();
    }

    private void TakeFromServer()
    {
        for (var taken = 0; _rest is null && !_hasSentEnd && !_isCut;)
        {
            if (_bodyLeft == 0)
            {
                if (!TryReadHeader())
                {
                    return;
                }

                BeginMessage();
                continue;
            }

            var bytes = _ports.Scratch.AsSpan(0, Math.Min(_bodyLeft, _ports.Scratch.Length));
            var count = _stream.Read(bytes);
            if (count == 0)
            {
                return;
            }

            _bodyLeft -= count;
            taken += count;
            Send(bytes[..count]);
            if (taken >= MostAtOnce)
            {
                _ports.Loop.Post(Pump);
                return;
            }
        }
    }

    private bool TryReadHeader()
    {
        while (_headerCount < _header.Length)
        {
            var count = _stream.Read(_header.AsSpan(_headerCount));
            if (count == 0)
            {
                return false;
            }

            _headerCount += count;
        }

        return true;
    }

    private void BeginMessage()
    {
        var kind = (PortMessage)_header[4];
        var length = TakeLength();
        switch (kind)
        {
            case PortMessage.Write when length > 0:
                break;
            case PortMessage.EndWrite when length == 0:
                _hasSentEnd = true;
                Linux.EndSending(_socket);
                break;
            default:
                throw new FormatException($"a message {(int)kind} of {length} bytes that cannot come here");
        }
    }

    private void Send(ReadOnlySpan<byte> bytes)
    {
        var sent = SendSome(bytes);
        if (sent < bytes.Length && !_isCut)
        {
            (_rest, _restBegin) = (bytes[sent..].ToArray(), 0);
        }
    }

    private void SendRest()
    {
        if (_rest is not null)
        {
            _restBegin += SendSome(_rest.AsSpan(_restBegin));
            if (_restBegin == _rest.Length || _isCut)
            {
                _rest = null;
            }
        }
    }

    // As much as the socket has room for.
    private int SendSome(ReadOnlySpan<byte> bytes)
    {
        var sent = 0;
        while (sent < bytes.Length)
        {
            var count = Linux.Send(_socket, bytes[sent..]);
            if (count > 0)
            {
                sent += count;
                continue;
            }

            // The program reads no more. What it wrote before is read to its end first; then the server learns of it.
            _isCut = count < 0 && Linux.LastError is not Linux.TryAgain and not Linux.Interrupted;
            break;
        }

        return sent;
    }

    private void TakeFromProgram()
    {
        while (_canReceive && !_hasReceivedEnd)
        {
            var room = Math.Min(_stream.Free, _ports.Scratch.Length) - ProcessMessages.HeaderSize;
            if (room < LeastRoom)
            {
                return;
            }

            var count = Linux.Receive(_socket, _ports.Scratch.AsSpan(ProcessMessages.HeaderSize, room));
            if (count > 0)
            {
                ProcessMessages.WriteHeader(_ports.Scratch, (ProcessMessage)PortMessage.Read, count);
                _stream.Write(_ports.Scratch.AsSpan(0, ProcessMessages.HeaderSize + count));
                // Less than there is room for is all that there was; more shows itself by an event.
                (_hasReceived, _canReceive) = (true, count == room);
            }
            else if (count < 0 && Linux.LastError is Linux.TryAgain or Linux.Interrupted)
            {
                _canReceive = false;
            }
            else
            {
                EndOfProgram(count < 0 ? Linux.LastError : 0);
            }
        }
    }

    private void EndOfProgram(int error)
    {
        _hasReceivedEnd = true;
        if (error != 0)
        {
            throw new PortFailedException(PortFailureKind.Guest, $"the program broke the connection: error {error}");
        }

        if (_ssh is not null && !_hasReceived)
        {
            throw new PortFailedException(PortFailureKind.Guest, "the guest's SSH server ended before it said anything");
        }

        if (!_isCut)
        {
            _stream.Write(PortMessages.Encode(PortMessage.EndRead, []));
        }
    }

    // Only what is waited for, because a socket that has hung up would be ready in every round.
    private void Watch()
    {
        var wanted = (_canReceive || _hasReceivedEnd ? 0 : Linux.EpollIn) | (_rest is null ? 0 : Linux.EpollOut);
        if (wanted == _watched)
        {
            return;
        }

        if (wanted == 0)
        {
            _ports.Loop.Remove(_socket);
        }
        else if (_watched == 0)
        {
            _ports.Loop.Add(_socket, wanted, OnReady);
        }
        else
        {
            _ports.Loop.Change(_socket, wanted);
        }

        _watched = wanted;
    }

    private void CloseSocket()
    {
        if (_socket < 0)
        {
            return;
        }

        if (_watched != 0)
        {
            _ports.Loop.Remove(_socket);
        }

        if (_rest is not null || _bodyLeft > 0)
        {
            Linux.BreakAtClose(_socket);
        }

        Linux.Close(_socket);
        (_socket, _watched, _rest) = (-1, 0, null);
    }
}
