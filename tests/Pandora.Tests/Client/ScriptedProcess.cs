using Pandora.Contracts;

namespace Pandora.Tests.Client;

/// <summary>A process of <see cref="ProcessServer"/>: a test writes its output and ends it.</summary>
internal sealed class ScriptedProcess
{
    public const string Id = "k3v9c2m4x7q1w8ab";
    private readonly List<(string Name, long Offset, byte[] Bytes, long EndOffset)> _output = [];
    private readonly List<byte> _input = [];
    private readonly List<string> _signals = [];
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _end;

    public StartProcessRequest? Request { get; set; }

    public bool IsForeground { get; set; }

    public ExitedEvent? Exit { get; private set; }

    public TerminalSize? Size { get; set; }

    public bool IsInputEnded { get; private set; }

    /// <summary>Is called with each signal; the usual process ends by it.</summary>
    public Action<string>? Signalled { get; set; }

    /// <summary>Is called with each piece of input.</summary>
    public Action<byte[]>? Fed { get; set; }

    /// <summary>Is called at the end of the input.</summary>
    public Action? InputEnded { get; set; }

    public byte[] Input
    {
        get
        {
            lock (_output)
            {
                return [.. _input];
            }
        }
    }

    public string[] Signals
    {
        get
        {
            lock (_output)
            {
                return [.. _signals];
            }
        }
    }

    public Task Changed
    {
        get
        {
            lock (_output)
            {
                return _changed.Task;
            }
        }
    }

    public ProcessState State
    {
        get
        {
            lock (_output)
            {
                return new ProcessState(
                    Id, 412, Request?.Code ?? "code", DateTimeOffset.UnixEpoch, Exit is null ? "running" : "exited", IsForeground,
                    Request?.KeepsAlive == true, Request?.Stdin == true, Request?.Terminal is not null, _input.Count, 0, _end,
                    Request?.Tag, Exit?.ExitCode, Exit?.TimedOut, Exit?.KillResult, Exit?.Oom, Exit?.MemoryLimitBytes);
            }
        }
    }

    public void Write(string name, byte[] bytes) => Change(() =>
    {
        _output.Add((name, _end, bytes, _end + bytes.Length));
        _end += bytes.Length;
    });

    public void Drop(int length) => Change(() =>
    {
        _output.Add((ProcessEvents.Dropped, _end, [], _end + length));
        _end += length;
    });

    public void End(int exitCode, bool? timedOut = null, string? killResult = null) =>
        Change(() => Exit ??= new ExitedEvent(exitCode, _end, ExecMs: 1, TimedOut: timedOut, KillResult: killResult));

    /// <summary>Takes input that begins at an offset, without what it has; false when bytes before it are missing.</summary>
    public bool TryFeed(long offset, ReadOnlySpan<byte> bytes)
    {
        byte[] fresh;
        lock (_output)
        {
            var known = _input.Count - offset;
            if (known < 0)
            {
                return false;
            }

            fresh = bytes[(int)Math.Min(known, bytes.Length)..].ToArray();
            _input.AddRange(fresh);
        }

        if (fresh.Length > 0)
        {
            Fed?.Invoke(fresh);
        }

        return true;
    }

    public void EndInput()
    {
        IsInputEnded = true;
        InputEnded?.Invoke();
    }

    public void Signal(string name)
    {
        lock (_output)
        {
            _signals.Add(name);
        }

        if (Signalled is { } signalled)
        {
            signalled(name);
        }
        else
        {
            End(128 + name switch { "INT" => 2, "PIPE" => 13, "HUP" => 1, _ => 9 });
        }
    }

    /// <summary>The next piece from an offset; null when there is none yet.</summary>
    public (string Name, long Offset, byte[] Bytes, long EndOffset)? Next(long offset)
    {
        lock (_output)
        {
            var found = _output.FindIndex(o => o.EndOffset > offset);
            if (found < 0)
            {
                return null;
            }

            var piece = _output[found];
            return piece.Name == ProcessEvents.Dropped || piece.Offset >= offset
                ? piece
                : (piece.Name, offset, piece.Bytes[(int)(offset - piece.Offset)..], piece.EndOffset);
        }
    }

    private void Change(Action change)
    {
        TaskCompletionSource changed;
        lock (_output)
        {
            change();
            (changed, _changed) = (_changed, new(TaskCreationOptions.RunContinuationsAsynchronously));
        }

        changed.SetResult();
    }
}
