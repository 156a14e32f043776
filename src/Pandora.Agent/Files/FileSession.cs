using Pandora.Agent.Protocol.Files;
using Pandora.Agent.Protocol.Processes;
using Pandora.Agent.Transport;

namespace Pandora.Agent.Files;

/// <summary>One stream of the server about files: it carries one request.</summary>
internal sealed class FileSession
{
    private readonly byte[] _scratch = new byte[32 * 1024];
    private readonly MessageParser _parser = new(FileMessages.MaxBody);
    private readonly AgentStream _stream;
    private readonly FileRequests _requests;
    private readonly RequestPipe _pipe;
    private FileRequest? _request;
    private byte[] _failure = [];
    private bool _isInputWhole, _isOver, _isPumping;
    private volatile bool _isDone;

    /// <param name="stream">The stream.</param>
    /// <param name="begun">Its first bytes, which were read already.</param>
    /// <param name="requests">Runs the request.</param>
    public FileSession(AgentStream stream, ReadOnlySpan<byte> begun, FileRequests requests)
    {
        (_stream, _requests) = (stream, requests);
        _pipe = new RequestPipe(() => requests.Loop.Post(Pump));
        begun.CopyTo(_parser.Room.Span);
        _parser.Received(begun.Length);
        stream.Changed = Pump;
        Pump();
    }

    // Takes what the server sent, then sends what there is, as far as the other side takes it. It runs on the loop's thread.
    private void Pump()
    {
        if (_isOver || _isPumping)
        {
            return;
        }

        _isPumping = true;
        try
        {
            Receive();
            Send();
        }
        catch (FormatException e)
        {
            Fail(FileFailureKind.Protocol, e.Message);
            Send();
        }
        finally
        {
            _isPumping = false;
        }

        if (!_isOver && _stream.IsClosed)
        {
            Leave();
        }
    }

    private void Receive()
    {
        // What the server sends after the request has failed stays unread: the stream ends.
        while (_failure.Length == 0 && !_isDone && _pipe.InputRoom >= FileMessages.MaxBody)
        {
            if (_parser.TryRead(out var kind, out var body))
            {
                Receive((FileMessage)kind, body.Span);
                continue;
            }

            var count = _stream.Read(_parser.Room.Span);
            if (count == 0)
            {
                return;
            }

            _parser.Received(count);
        }
    }

    private void Receive(FileMessage kind, ReadOnlySpan<byte> body)
    {
        switch (kind)
        {
            case FileMessage.Request when _request is null:
                _request = FileRequest.Decode(body);
                if (!_requests.TryRun(_pipe, Work))
                {
                    Fail(FileFailureKind.TooMany, $"the guest serves {FileRequests.MostThreads} requests for files at once");
                }

                break;
            case FileMessage.Write when _request?.Operation is FileOperation.Write or FileOperation.Unpack && !_isInputWhole:
                _pipe.AddInput(body);
                break;
            case FileMessage.EndWrite when _request?.Operation is FileOperation.Write or FileOperation.Unpack && !_isInputWhole:
                _isInputWhole = true;
                _pipe.EndInput();
                break;
            default:
                throw new FormatException($"a message {(int)kind} that cannot come here");
        }
    }

    // On a thread of its own.
    private void Work()
    {
        try
        {
            FileWork.Run(_request!, _pipe);
        }
        catch (OperationCanceledException)
        {
            // The server has closed the stream, and reads no answer.
        }
        finally
        {
            _isDone = true;
            _requests.Loop.Post(Pump);
        }
    }

    private void Send()
    {
        // The order matters: what the thread wrote before it was done is there when it is done.
        while (_failure.Length == 0)
        {
            var isDone = _isDone;
            var room = Math.Min(_stream.Free, _scratch.Length);
            var count = room == 0 ? 0 : _pipe.TakeOutput(_scratch.AsSpan(0, room));
            if (count > 0)
            {
                _stream.Write(_scratch.AsSpan(0, count));
            }
            else
            {
                if (isDone && room > 0)
                {
                    End();
                }

                return;
            }
        }

        // Without room the other end reads nothing, and learns of the failure by the end of the stream.
        if (_stream.Free >= _failure.Length)
        {
            _stream.Write(_failure);
        }

        Leave();
    }

    private void Fail(FileFailureKind kind, string reason) =>
        _failure = FileMessages.Encode(FileMessage.Failed, new FileFailure(kind, reason).Encode());

    private void Leave()
    {
        _pipe.Cancel();
        End();
    }

    private void End()
    {
        _isOver = true;
        _stream.End();
    }
}
