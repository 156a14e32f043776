using Pandora.Engine;
using Pandora.Engine.Guests;

namespace Pandora.Fakes;

/// <summary>
/// A process in a fake guest, which outlives servers. A test says what it writes, whether it reads, and when it ends. Its output is kept as
/// the agent keeps it: with one absolute offset, up to a bound, the oldest bytes dropped first.
/// </summary>
internal sealed class FakeRun
{
    /// <summary>Most bytes of one stream's input that wait, as in the agent.</summary>
    public const int InputWindow = 64 * 1024;

    private readonly Lock _lock = new();
    private readonly FakeGuest _guest;
    private readonly List<(OutputStream Stream, byte Value)> _kept = [];
    private readonly Dictionary<FakeReader, long> _readers = [];
    private readonly List<byte> _input = [], _waiting = [];
    private readonly ITimer? _limit;
    private TaskCompletionSource _changed = NewSignal();
    private long _begin, _readTo, _accepted;
    private bool _takesInput;

    public FakeRun(FakeGuest guest, ProcessSpec spec, string id, int pid)
    {
        (_guest, Spec, Id, Pid, StartedAt, _takesInput) = (guest, spec, id, pid, guest.Time.GetUtcNow(), guest.TakesInput);
        _limit = spec.TimeLimit is { } limit
            ? guest.Time.CreateTimer(_ => EndWith(new ProcessEnd(137) { Stopped = Killed }), null, limit, Timeout.InfiniteTimeSpan)
            : null;
    }

    public string Id { get; }

    public int Pid { get; }

    public ProcessSpec Spec { get; }

    public DateTimeOffset StartedAt { get; }

    /// <summary>Its end; null while it runs.</summary>
    public ProcessEnd? End { get; private set; }

    /// <summary>Whether a server killed it.</summary>
    public bool IsKilled { get; private set; }

    /// <summary>Whether what is written to its input comes back as its output, and the end of its input is its end.</summary>
    public bool RepeatsInput { get; init; }

    /// <summary>Whether a signal ends it; else only SIGKILL does.</summary>
    public bool DiesOfSignals { get; set; } = true;

    public List<int> Signals { get; } = [];

    public List<(int Columns, int Rows)> Sizes { get; } = [];

    public bool HasInputEnded { get; private set; }

    public int ReaderCount
    {
        get
        {
            lock (_lock)
            {
                return _readers.Count;
            }
        }
    }

    /// <summary>Offset after what was written.</summary>
    public long OutputEnd
    {
        get
        {
            lock (_lock)
            {
                return _begin + _kept.Count;
            }
        }
    }

    /// <summary>Offset up to which some reader has read its output.</summary>
    public long ReadTo
    {
        get
        {
            lock (_lock)
            {
                return _readTo;
            }
        }
    }

    /// <summary>The input that it has read.</summary>
    public byte[] Input
    {
        get
        {
            lock (_lock)
            {
                return [.. _input];
            }
        }
    }

    /// <summary>Whether it reads its input at once.</summary>
    public bool TakesInput
    {
        get => _takesInput;
        set => Change(() =>
        {
            _takesInput = value;
            TakeWaiting();
        });
    }

    /// <summary>Whether it has closed its input.</summary>
    public bool RefusesInput => _guest.RefusesInput;

    public bool HasInput => Spec.HasInput || Spec.Terminal is not null;

    public ProcessFacts Facts
    {
        get
        {
            lock (_lock)
            {
                return new ProcessFacts(
                    HasInput, Spec.Terminal is not null, Spec.IsForeground, Spec.KeepsAlive, _begin, _begin + _kept.Count, _accepted);
            }
        }
    }

    public ProcessInfo Info => new(Id, Pid, Spec.Tag, Spec.Code ?? string.Join(' ', Spec.Arguments), StartedAt, Facts, End);

    /// <summary>Completes at the next change.</summary>
    public Task Changed
    {
        get
        {
            lock (_lock)
            {
                return _changed.Task;
            }
        }
    }

    private CommandStop Killed => new(_guest.StopOutcome, "a test stopped it");

    /// <summary>Writes output.</summary>
    /// <returns>How many bytes: fewer when the process waits for a reader.</returns>
    public int Write(OutputStream stream, params ReadOnlySpan<byte> bytes)
    {
        lock (_lock)
        {
            var unread = _begin + _kept.Count - Math.Max(_begin, _readTo);
            var count = Spec.WaitsForReader ? (int)Math.Clamp(_guest.KeptBytes - unread, 0, bytes.Length) : bytes.Length;
            if (End is not null)
            {
                return 0;
            }

            foreach (var value in bytes[..count])
            {
                _kept.Add((stream, value));
            }

            if (_kept.Count - _guest.KeptBytes is var excess and > 0)
            {
                _kept.RemoveRange(0, excess);
                _begin += excess;
            }

            SignalChange();
            return count;
        }
    }

    public int Write(string text) => Write(OutputStream.Stdout, System.Text.Encoding.UTF8.GetBytes(text));

    /// <summary>Drops output, as the guest does when its memory or its disk is full.</summary>
    public void DropTo(long offset) => Change(() =>
    {
        _kept.RemoveRange(0, (int)Math.Clamp(offset - _begin, 0, _kept.Count));
        _begin = offset;
    });

    /// <summary>Ends it.</summary>
    public void EndWith(int exitCode) => EndWith(new ProcessEnd(exitCode));

    /// <summary>Ends it. Input that it has not read is lost.</summary>
    public void EndWith(ProcessEnd end) => Change(() =>
    {
        End ??= end with { Offset = _begin + _kept.Count };
        _limit?.Dispose();
    });

    /// <summary>Kills it, as the agent does for a server.</summary>
    public CommandStop Kill()
    {
        var stop = Killed;
        if (stop.Outcome == CommandOutcome.Killed)
        {
            IsKilled |= End is null;
            EndWith(137);
        }

        return stop;
    }

    public bool Signal(int signal)
    {
        if (End is not null)
        {
            return false;
        }

        Signals.Add(signal);
        if (signal == 9 || (DiesOfSignals && signal is 1 or 2 or 15))
        {
            EndWith(128 + signal);
        }

        return true;
    }

    public bool Resize(int columns, int rows)
    {
        if (Spec.Terminal is null || End is not null)
        {
            return false;
        }

        Sizes.Add((columns, rows));
        return true;
    }

    public bool EndInput()
    {
        var isRunning = End is null;
        Change(() => HasInputEnded = true);
        if (RepeatsInput)
        {
            EndWith(0);
        }

        return isRunning;
    }

    /// <summary>Takes bytes of a reader's input. A process without an input drops them.</summary>
    public void Accept(ReadOnlySpan<byte> bytes)
    {
        var taken = bytes.ToArray();
        Change(() =>
        {
            if (HasInput && End is null && !HasInputEnded)
            {
                _accepted += taken.Length;
                _waiting.AddRange(taken);
                TakeWaiting();
            }
        });
    }

    /// <summary>Number of bytes of input that it has not read.</summary>
    public int WaitingInput
    {
        get
        {
            lock (_lock)
            {
                return _waiting.Count;
            }
        }
    }

    /// <summary>Sets how far a reader is.</summary>
    public void SetReader(FakeReader reader, long offset) => Change(() =>
    {
        _readers[reader] = offset;
        _readTo = Math.Max(_readTo, offset);
    });

    public void RemoveReader(FakeReader reader) => Change(() => _readers.Remove(reader));

    /// <summary>The next bytes of one output from an offset on; null when there are none.</summary>
    public ProcessOutput? Read(long offset)
    {
        lock (_lock)
        {
            offset = Math.Max(offset, _begin);
            var rest = _kept.Skip((int)(offset - _begin)).Take(_guest.PieceSize).ToList();
            return rest.Count == 0
                ? null
                : new ProcessOutput(
                    rest[0].Stream, offset, rest.TakeWhile(r => r.Stream == rest[0].Stream).Select(r => r.Value).ToArray());
        }
    }

    /// <summary>Wakes its readers.</summary>
    public void Wake() => Change(() => { });

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private void TakeWaiting()
    {
        if (!_takesInput)
        {
            return;
        }

        _input.AddRange(_waiting);
        if (RepeatsInput)
        {
            _kept.AddRange(_waiting.Select(b => (OutputStream.Stdout, b)));
        }

        _waiting.Clear();
    }

    private void Change(Action change)
    {
        lock (_lock)
        {
            change();
            SignalChange();
        }
    }

    private void SignalChange()
    {
        var changed = _changed;
        _changed = NewSignal();
        changed.TrySetResult();
    }
}
