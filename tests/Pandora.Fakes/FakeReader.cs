using System.Collections.Concurrent;
using Pandora.Engine;
using Pandora.Engine.Guests;

namespace Pandora.Fakes;

/// <summary>
/// A server's view of a <see cref="FakeRun"/>, with the contract of the real one: answers come only while output is read, one caller at a
/// time may read, and what was cut in the middle of a message can send nothing more.
/// </summary>
internal sealed class FakeReader : IGuestProcess
{
    private const int InputAtOnce = FakeRun.InputWindow / 4;

    private static readonly CommandStop NoAnswer = new(
        CommandOutcome.Unreachable, "it was to be killed, and the guest did not answer: whether it still runs is not known");

    private readonly FakeLink _link;
    private readonly FakeRun _run;
    private readonly bool _hasOutput;
    private readonly ConcurrentQueue<(TaskCompletionSource<bool> Done, bool Result)> _answers = new();
    private readonly SemaphoreSlim _writing = new(1, 1);
    private readonly TaskCompletionSource _isDisposed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private TaskCompletionSource _inputChanged = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private volatile bool _isInputDropped;
    private long _offset, _sent, _taken;
    private int _isReading;
    private volatile bool _isTorn;

    public FakeReader(FakeLink link, FakeRun run, ReadFrom from)
    {
        (_link, _run, Facts, _hasOutput) = (link, run, run.Facts, from != ReadFrom.Nothing);
        _offset = from.Offset < 0 ? Facts.OutputEnd : Math.Min(from.Offset, Facts.OutputEnd);
        if (_hasOutput)
        {
            run.SetReader(this, _offset);
        }
    }

    public string Id => _run.Id;

    public int Pid => _run.Pid;

    public ProcessFacts Facts { get; }

    public ProcessEnd? End { get; private set; }

    public async ValueTask<ProcessOutput?> ReadAsync(CancellationToken cancellationToken)
    {
        if (Interlocked.Exchange(ref _isReading, 1) == 1)
        {
            _link.Guest.Violations.Enqueue("two callers read a process at once");
            throw new InvalidOperationException("two callers read a process at once");
        }

        try
        {
            while (true)
            {
                var changed = _run.Changed;
                cancellationToken.ThrowIfCancellationRequested();
                if (TakeOne() is { } output)
                {
                    return output;
                }

                if (End is not null)
                {
                    return null;
                }

                await Task.WhenAny(changed, _isDisposed.Task).WaitAsync(cancellationToken);
                if (_isDisposed.Task.IsCompleted)
                {
                    Finish(new ProcessEnd(137) { Stopped = NoAnswer });
                    return null;
                }
            }
        }
        finally
        {
            Volatile.Write(ref _isReading, 0);
        }
    }

    public async Task WriteInputAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        while (!bytes.IsEmpty && End is null)
        {
            var changed = Volatile.Read(ref _inputChanged).Task;
            var piece = bytes[..Math.Min(InputAtOnce, bytes.Length)];
            if (FakeRun.InputWindow - (_sent - Volatile.Read(ref _taken)) < piece.Length)
            {
                await Task.WhenAny(changed, _isDisposed.Task).WaitAsync(cancellationToken);
                ObjectDisposedException.ThrowIf(_isDisposed.Task.IsCompleted, this);
                continue;
            }

            await SendAsync(() => _run.Accept(piece.Span), isInput: true, cancellationToken);
            Interlocked.Add(ref _sent, piece.Length);
            bytes = bytes[piece.Length..];
            _run.Wake();
        }

        _isInputDropped |= !bytes.IsEmpty;
    }

    // The guest says it in its answer to input.
    public bool IsInputLost => _run.RefusesInput && Volatile.Read(ref _sent) > 0;

    public async Task<bool> WaitForInputAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            var changed = Volatile.Read(ref _inputChanged).Task;
            if (!_isInputDropped && Volatile.Read(ref _taken) >= Volatile.Read(ref _sent))
            {
                return true;
            }

            if (End is not null || _isDisposed.Task.IsCompleted)
            {
                return false;
            }

            await Task.WhenAny(changed, _isDisposed.Task).WaitAsync(cancellationToken);
        }
    }

    public Task<bool> EndInputAsync(CancellationToken cancellationToken) => AskAsync(_run.EndInput, cancellationToken);

    public Task<bool> SignalAsync(int signal, CancellationToken cancellationToken) =>
        AskAsync(() => _run.Signal(signal), cancellationToken);

    public Task<bool> ResizeAsync(int columns, int rows, CancellationToken cancellationToken) =>
        AskAsync(() => _run.Resize(columns, rows), cancellationToken);

    public async Task<CommandStop> KillAsync()
    {
        if (_link.IsDead)
        {
            return NoAnswer;
        }

        // The kill comes after what is being sent. When that was cut, it does not come at all.
        await _writing.WaitAsync();
        _writing.Release();
        var stop = _isTorn ? NoAnswer : _run.Kill();
        if (stop.Outcome == CommandOutcome.Killed)
        {
            while (await ReadAsync(CancellationToken.None) is not null)
            {
                // Nobody wants it.
            }
        }

        Finish(new ProcessEnd(137) { Stopped = stop });
        return stop;
    }

    public ValueTask DisposeAsync()
    {
        _isDisposed.TrySetResult();
        _run.RemoveReader(this);
        if (_run.Spec.IsReadOnce && End is not null && _hasOutput)
        {
            _link.Guest.Forget(_run);
        }

        return ValueTask.CompletedTask;
    }

    // Takes what the guest has sent: answers first, then output, and the end after all output.
    private ProcessOutput? TakeOne()
    {
        if (_link.IsDead)
        {
            return _link.IsSilent ? null : throw FakeLink.Lost();
        }

        var end = _run.End;
        GiveAnswers();
        Volatile.Write(ref _taken, Math.Max(_taken, Volatile.Read(ref _sent) - _run.WaitingInput));
        SignalInput();
        if (End is null && _hasOutput && _run.Read(_offset) is { } output)
        {
            _offset = output.Offset + output.Bytes.Length;
            _run.SetReader(this, _offset);
            return output;
        }

        if (End is null && end is not null)
        {
            Finish(end);
        }

        return null;
    }

    private void Finish(ProcessEnd end)
    {
        End = end;
        SignalInput();
        GiveAnswers();
    }

    private void GiveAnswers()
    {
        // What was written before, by this thread or another, is seen.
        Interlocked.MemoryBarrier();
        while (_answers.TryDequeue(out var answer))
        {
            answer.Done.TrySetResult(answer.Result);
        }
    }

    private void SignalInput() =>
        Interlocked.Exchange(ref _inputChanged, new(TaskCreationOptions.RunContinuationsAsynchronously)).TrySetResult();

    private async Task<bool> AskAsync(Func<bool> act, CancellationToken cancellationToken)
    {
        if (End is not null)
        {
            return false;
        }

        var done = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
        await SendAsync(() => _answers.Enqueue((done, act())), isInput: false, cancellationToken);
        _run.Wake();
        Interlocked.MemoryBarrier();
        if (End is not null)
        {
            // The process ended by what was asked, and its reader saw that before the answer was there.
            GiveAnswers();
        }

        return await done.Task.WaitAsync(cancellationToken);
    }

    private async Task SendAsync(Action arrive, bool isInput, CancellationToken cancellationToken)
    {
        await _writing.WaitAsync(cancellationToken);
        try
        {
            if (_link.IsDead || _isTorn || _isDisposed.Task.IsCompleted)
            {
                throw FakeLink.Lost();
            }

            _isTorn = true;
            await (isInput ? Task.WhenAny(_link.Guest.InputPasses, _isDisposed.Task) : Task.CompletedTask).WaitAsync(cancellationToken);
            _isTorn = false;
            arrive();
        }
        finally
        {
            _writing.Release();
        }
    }
}
