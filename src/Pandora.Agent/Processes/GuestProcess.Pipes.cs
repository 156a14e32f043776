using Pandora.Agent.Protocol.Channel;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Processes;

/// <content>Moves bytes between the process's pipes, its log and its input.</content>
internal sealed partial class GuestProcess
{
    // Of all sessions together; each has one window.
    private readonly ByteQueue _pendingInput = new(16 * ProcessMessages.InputWindow);
    private readonly byte[] _inputPiece = new byte[4096];
    private readonly Dictionary<ProcessSession, ulong> _readers = [];
    private ulong _readTo;
    private long _inputAccepted;
    private bool _mustEndInput;

    /// <summary>Number of bytes of input that the process has not read yet.</summary>
    public int PendingInput => InputDescriptor < 0 ? 0 : _pendingInput.Count;

    /// <summary>Whether the process has ended its input or does not read it any more, or has none.</summary>
    public bool IsInputClosed => InputDescriptor < 0;

    /// <summary>Writes to standard input. What does not fit waits, in the order in which it came.</summary>
    /// <returns>False when too much waits.</returns>
    public bool WriteInput(ReadOnlySpan<byte> bytes)
    {
        if (InputDescriptor < 0)
        {
            // The process has ended or does not read any more.
            return true;
        }

        // Before anything is written or counted: a message is taken whole or not at all.
        if (bytes.Length > _pendingInput.Free)
        {
            return false;
        }

        _inputAccepted += bytes.Length;
        if (_pendingInput.Count == 0)
        {
            var count = WriteToInput(bytes);
            if (count < 0)
            {
                return true;
            }

            bytes = bytes[count..];
        }

        if (!bytes.IsEmpty)
        {
            _pendingInput.Add(bytes);
            WatchInput(InputDescriptor);
        }

        return true;
    }

    /// <summary>Ends standard input after what was written. A terminal has no end; programs there take the character 4.</summary>
    /// <returns>False when the process has ended.</returns>
    public bool EndInput()
    {
        var isRunning = End is null && _status < 0;
        _mustEndInput = true;
        if (_pendingInput.Count == 0 && _terminal < 0)
        {
            CloseInput();
        }

        return isRunning;
    }

    /// <summary>Sets how far a session has read the output.</summary>
    public void SetReader(ProcessSession reader, ulong offset)
    {
        _readers[reader] = offset;
        _readTo = Math.Max(_readTo, offset);
        ReadOutputs();
    }

    /// <summary>Forgets a session, which reads no more.</summary>
    public void RemoveReader(ProcessSession reader)
    {
        if (_readers.Remove(reader))
        {
            ReadOutputs();
        }
    }

    // Reads again from pipes that waited for a reader.
    private void ReadOutputs()
    {
        foreach (var pipe in _outputs.OfType<OutputPipe>().Where(p => !p.IsClosed && !p.IsDiscarding))
        {
            if (pipe.Remaining == 0)
            {
                Unwatch(pipe);
            }
            else if (pipe.Remaining > 0 || !pipe.IsWatched)
            {
                Read(pipe);
            }
        }

        FinishIfRead();
    }

    private void WatchInput(int descriptor)
    {
        if (_isInputWatched)
        {
            return;
        }

        _isInputWatched = true;
        if (descriptor == _terminal)
        {
            // It is watched for output already; a terminal is seldom full.
            _loop.After(10, OnInputReady);
            return;
        }

        _loop.Add(descriptor, Linux.EpollOut, _ =>
        {
            _loop.Remove(descriptor);
            OnInputReady();
        });
    }

    private void OnInputReady()
    {
        _isInputWatched = false;
        while (_pendingInput.Count > 0 && InputDescriptor >= 0)
        {
            var piece = _inputPiece.AsSpan(0, _pendingInput.Peek(_pendingInput.Begin, _inputPiece));
            var count = WriteToInput(piece);
            if (count < 0)
            {
                break;
            }

            _pendingInput.RemoveTo(_pendingInput.Begin + (ulong)count);
            if (count < piece.Length)
            {
                WatchInput(InputDescriptor);
                break;
            }
        }

        if (_pendingInput.Count == 0 && _mustEndInput)
        {
            EndInput();
        }

        Changed?.Invoke(this);
    }

    private int InputDescriptor => _terminal >= 0 ? _terminal : _input;

    // Writes as much as fits. Of a process that does not read any more the input is closed: then the result is negative.
    private int WriteToInput(ReadOnlySpan<byte> bytes)
    {
        var written = 0;
        while (written < bytes.Length)
        {
            var count = Linux.WriteSome(InputDescriptor, bytes[written..]);
            if (count < 0 && Linux.LastError == Linux.TryAgain)
            {
                break;
            }

            if (count <= 0)
            {
                CloseInput();
                return -1;
            }

            written += count;
        }

        return written;
    }

    private void CloseInput()
    {
        _pendingInput.RemoveTo(_pendingInput.End);
        if (_input >= 0)
        {
            _loop.Remove(_input);
            Linux.Close(_input);
            _input = -1;
        }
    }

    private void Watch(OutputPipe pipe)
    {
        pipe.IsWatched = true;
        _loop.Add(pipe.Descriptor, Linux.EpollIn, _ =>
        {
            Read(pipe);
            FinishIfRead();
        });
    }

    private void Unwatch(OutputPipe pipe)
    {
        if (pipe.IsWatched)
        {
            pipe.IsWatched = false;
            _loop.Remove(pipe.Descriptor);
        }
    }

    // One read for each event, so that no process keeps the agent from the others.
    private void Read(OutputPipe pipe)
    {
        do
        {
            var room = RoomFor(pipe);
            if (room == 0)
            {
                // The reader's progress calls again.
                Unwatch(pipe);
                return;
            }

            var count = Linux.Read(pipe.Descriptor, Buffer.AsSpan(0, room));
            if (count < 0 && Linux.LastError == Linux.TryAgain && pipe.Remaining < 0)
            {
                break;
            }

            if (count <= 0)
            {
                pipe.Remaining = Math.Min(pipe.Remaining, 0);
                Close(pipe);
                return;
            }

            if (pipe.IsDiscarding)
            {
                return;
            }

            pipe.Remaining -= pipe.Remaining > 0 ? count : 0;
            Output.Add(pipe.Output, Buffer.AsSpan(0, count), KeepFrom);
            Changed?.Invoke(this);
        }
        while (pipe.Remaining > 0);

        if (!pipe.IsWatched && pipe.Remaining < 0)
        {
            Watch(pipe);
        }
        else if (pipe.Remaining == 0)
        {
            Unwatch(pipe);
        }
    }

    private int RoomFor(OutputPipe pipe)
    {
        var room = pipe.Remaining > 0 ? Math.Min(ReadAtOnce, pipe.Remaining) : ReadAtOnce;
        if (pipe.IsDiscarding || _request.Policy == OutputPolicy.Keep
            || (_request.Policy == OutputPolicy.WaitWhileRead && !HasReader))
        {
            return room;
        }

        // What a program has left at its end is read, so that the end is seen.
        return HasReader ? Math.Min(room, Output.FreeAfter(_readTo)) : _status >= 0 || Output.CanKeep(room, _readTo) ? room : 0;
    }

    // Everything is kept as long as there is room; or only what a reader has not had.
    private ulong KeepFrom => _request.Policy != OutputPolicy.Wait ? 0 : HasReader ? _readers.Values.Min() : _readTo;

    private void Close(OutputPipe pipe)
    {
        if (!pipe.IsClosed)
        {
            pipe.IsClosed = true;
            Unwatch(pipe);
            Linux.Close(pipe.Descriptor);
            _terminal = pipe.Descriptor == _terminal ? -1 : _terminal;
        }
    }
}
