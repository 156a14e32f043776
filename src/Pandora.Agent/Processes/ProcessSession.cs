using System.Buffers.Binary;
using System.Text;
using Pandora.Agent.Protocol.Processes;
using Pandora.Agent.Transport;

namespace Pandora.Agent.Processes;

/// <summary>One stream of the server about processes: it starts one, attaches to one, or lists them.</summary>
internal sealed class ProcessSession
{
    private static readonly byte[] Scratch = new byte[ProcessMessages.HeaderSize + ProcessMessages.OutputPrefix + (32 * 1024)];
    private readonly AgentStream _stream;
    private readonly ProcessTable _processes;
    private readonly MessageParser _parser = new(ProcessMessages.MaxRequest);
    private readonly Queue<byte[]> _answers = new();
    private GuestProcess? _process;
    private ulong _offset;
    private long _inputReceived, _inputTaken;
    private int _answered;
    private bool _isEndSent, _mustEnd, _isOver, _isPumping, _readsOutput, _isInputLost;

    /// <param name="stream">The stream.</param>
    /// <param name="begun">Its first bytes, which were read already.</param>
    /// <param name="processes">The processes.</param>
    public ProcessSession(AgentStream stream, ReadOnlySpan<byte> begun, ProcessTable processes)
    {
        (_stream, _processes) = (stream, processes);
        begun.CopyTo(_parser.Room.Span);
        _parser.Received(begun.Length);
        stream.Changed = Pump;
        Pump();
    }

    // Takes what the server sent, then sends what there is, as far as the other side takes it.
    private void Pump()
    {
        // A process may change while it is used here.
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
            Fail(FailureKind.Protocol, e.Message);
            Send();
        }
        finally
        {
            _isPumping = false;
        }

        if (!_isOver && _stream.IsClosed)
        {
            Leave();
            _stream.End();
            if (_process is not null && _stream.CloseReason == ProcessMessages.ForgetReason)
            {
                _processes.Forget(_process);
            }
        }
    }

    private void Receive()
    {
        while (!_mustEnd)
        {
            if (!_parser.TryRead(out var kind, out var body))
            {
                var count = _stream.Read(_parser.Room.Span);
                if (count == 0)
                {
                    return;
                }

                _parser.Received(count);
                continue;
            }

            Receive(kind, body.Span);
            _parser.Shrink();
        }
    }

    private void Receive(ProcessMessage kind, ReadOnlySpan<byte> body)
    {
        try
        {
            switch (kind)
            {
                case ProcessMessage.Start when _process is null:
                    Join(_processes.Start(StartRequest.Decode(body)), 0);
                    break;
                case ProcessMessage.Attach when _process is null:
                    var attach = AttachRequest.Decode(body);
                    Join(_processes.Get(attach.Id), attach.Offset);
                    break;
                case ProcessMessage.List when _process is null:
                    List(body);
                    break;
                case ProcessMessage.Input when _process is not null:
                    _inputReceived += body.Length;
                    if (!_process.WriteInput(body))
                    {
                        throw new FormatException("more input than the window has room for");
                    }

                    break;
                case ProcessMessage.EndInput when _process is not null:
                    AnswerDone(_process.EndInput());
                    break;
                case ProcessMessage.Signal when _process is not null && body.Length == 4:
                    AnswerDone(_process.Signal(BinaryPrimitives.ReadInt32LittleEndian(body)));
                    break;
                case ProcessMessage.Resize when _process is not null && body.Length == 4:
                    AnswerDone(_process.Resize(
                        BinaryPrimitives.ReadUInt16LittleEndian(body), BinaryPrimitives.ReadUInt16LittleEndian(body[2..])));
                    break;
                case ProcessMessage.Kill when _process is not null:
                    _process.Kill(report =>
                    {
                        Answer(ProcessMessage.Killed, [(byte)report]);
                        Pump();
                    });
                    break;
                case ProcessMessage.Forget when _process is not null:
                    _processes.Forget(_process);
                    _mustEnd = true;
                    break;
                default:
                    throw new FormatException($"a message {(int)kind} that cannot come here");
            }
        }
        catch (RequestFailedException e)
        {
            Fail(e.Kind, e.Message);
        }
    }

    private void List(ReadOnlySpan<byte> id)
    {
        IEnumerable<GuestProcess> listed = id.IsEmpty ? _processes.All : [_processes.Get(Encoding.UTF8.GetString(id))];
        foreach (var process in listed)
        {
            Answer(ProcessMessage.Entry, process.Entry.Encode());
        }

        _mustEnd = true;
    }

    private void Join(GuestProcess process, long offset)
    {
        _process = process;
        _readsOutput = offset != AttachRequest.NoOutput;
        _offset = offset < 0 ? process.Output.End : Math.Min((ulong)offset, process.Output.End);
        Answer(ProcessMessage.Started, new StartedReport(process.Pid, process.Facts).Encode());
        process.Changed += OnProcessChanged;
        if (_readsOutput)
        {
            process.SetReader(this, _offset);
        }
    }

    private void AnswerDone(bool isDone) => Answer(ProcessMessage.Done, [isDone ? (byte)1 : (byte)0]);

    private void OnProcessChanged(GuestProcess process) => Pump();

    private void Leave()
    {
        _isOver = true;
        if (_process is not null)
        {
            _process.Changed -= OnProcessChanged;
            _process.RemoveReader(this);
        }
    }

    private void Answer(ProcessMessage kind, ReadOnlySpan<byte> body) => _answers.Enqueue(ProcessMessages.Encode(kind, body));

    private void Fail(FailureKind kind, string reason)
    {
        Answer(ProcessMessage.Failed, new FailureReport(kind, reason).Encode());
        _mustEnd = true;
    }

    private void Send()
    {
        if (SendAnswers())
        {
            AnswerLostInput();
            AnswerInput();
        }

        if (SendAnswers() && !_mustEnd && _process is not null && !_isEndSent)
        {
            if (_readsOutput)
            {
                SendOutput(_process);
            }
            else
            {
                SendEnd(_process);
            }

            _ = SendAnswers();
        }

        if (_mustEnd && _answers.Count == 0)
        {
            Leave();
            _stream.End();
        }
    }

    // In steps of a part of the window, so that small pieces do not cost an answer each while more waits.
    private void AnswerInput()
    {
        // What waited at the process's end was not taken, although it waits no more.
        if (_process is null || _mustEnd || _isEndSent || _process.HasExited || _answers.Count > 0)
        {
            return;
        }

        var taken = Math.Max(0, _inputReceived - _process.PendingInput);
        if (taken > _inputTaken && (taken == _inputReceived || taken - _inputTaken >= ProcessMessages.InputWindow / 4))
        {
            _inputTaken = taken;
            var body = new byte[8];
            BinaryPrimitives.WriteInt64LittleEndian(body, taken);
            Answer(ProcessMessage.Taken, body);
        }
    }

    private void AnswerLostInput()
    {
        if (_process is { IsInputClosed: true, HasExited: false } && _inputReceived > _inputTaken && !_isInputLost && !_mustEnd)
        {
            _isInputLost = true;
            Answer(ProcessMessage.InputLost, []);
        }
    }

    // An answer may be longer than there is room for.
    private bool SendAnswers()
    {
        while (_answers.TryPeek(out var answer))
        {
            var count = Math.Min(_stream.Free, answer.Length - _answered);
            _stream.Write(answer.AsSpan(_answered, count));
            _answered += count;
            if (_answered < answer.Length)
            {
                return false;
            }

            _answers.Dequeue();
            _answered = 0;
        }

        return true;
    }

    private void SendOutput(GuestProcess process)
    {
        const int Prefix = ProcessMessages.HeaderSize + ProcessMessages.OutputPrefix;
        while (true)
        {
            _offset = Math.Max(_offset, process.Output.Begin);
            var room = Math.Min(_stream.Free, Scratch.Length) - Prefix;
            var count = room <= 0 ? 0 : process.Output.Read(_offset, Scratch.AsSpan(Prefix, room), out Scratch[Prefix - 1]);
            if (count == 0)
            {
                if (_offset < process.Output.Begin)
                {
                    // It was lost while it was read.
                    continue;
                }

                break;
            }

            ProcessMessages.WriteHeader(Scratch, ProcessMessage.Output, ProcessMessages.OutputPrefix + count);
            BinaryPrimitives.WriteUInt64LittleEndian(Scratch.AsSpan(ProcessMessages.HeaderSize), _offset);
            _stream.Write(Scratch.AsSpan(0, Prefix + count));
            _offset += (ulong)count;
            process.SetReader(this, _offset);
        }

        SendEnd(process);
    }

    private void SendEnd(GuestProcess process)
    {
        if (process.End is { } end && (!_readsOutput || _offset >= process.Output.End) && _stream.Free > 0)
        {
            _isEndSent = true;
            Answer(ProcessMessage.Ended, end.Encode());
        }
    }
}
