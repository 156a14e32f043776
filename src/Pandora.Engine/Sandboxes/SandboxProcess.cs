using System.Diagnostics;
using Pandora.Engine.Guests;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// A process that a client reads. (1) A command that the client has started is killed when it is disposed of before its end, unless the
/// server stops: then the next server knows it. (2) A process that the client attached to runs on.
/// </summary>
public sealed class SandboxProcess : IAsyncDisposable
{
    private const int Sigkill = 9;
    private readonly Sandbox _sandbox;
    private readonly IGuestProcess _process;
    private Sandbox.Lease? _lease;
    private readonly AuditLine _line;
    private bool _isRecorded;
    private Exception? _failure;
    private long _inputBytes;
    private volatile bool _hasFed;
    private int _isDisposed;

    internal SandboxProcess(Sandbox sandbox, IGuestProcess process, Sandbox.Lease? lease, AuditLine line) =>
        (_sandbox, _process, _lease, _line) = (sandbox, process, lease, line);

    /// <summary>Its id.</summary>
    public string Id => _process.Id;

    /// <summary>Its pid in the guest.</summary>
    public int Pid => _process.Pid;

    /// <summary>What it had when it was started or attached to.</summary>
    public ProcessFacts Facts => _process.Facts;

    /// <summary>How it ended; null before <see cref="ReadAsync"/> has returned null.</summary>
    public ProcessEnd? End => _process.End;

    /// <summary>For a command, the time from its start to its end, or until now; null for a process that was attached to.</summary>
    public TimeSpan? Elapsed { get; private set; }

    /// <summary>Whether the sandbox's disk has lost data that the guest had written.</summary>
    public bool HasLostData => _sandbox.HasLostData;

    /// <summary>Timestamp of the command's start; null for a process that was attached to.</summary>
    internal long? CommandStart { get; init; }

    /// <summary>The place of the reader among those of the sandbox.</summary>
    internal Sandbox.Reader? Reader { get; init; }

    /// <summary>Reads the next output, which is valid until the next call. One caller at a time may read.</summary>
    /// <returns>Null at the end of the process.</returns>
    /// <exception cref="PandoraException">The sandbox has ended, the server stops, or the guest does not answer.</exception>
    public async ValueTask<ProcessOutput?> ReadAsync(CancellationToken cancellationToken)
    {
        using var stop = _sandbox.StopOf(cancellationToken);
        try
        {
            var output = await _process.ReadAsync(stop.Token);
            if (output is null)
            {
                Record();
            }
            else
            {
                _sandbox.Touch();
            }

            return output;
        }
        catch (Exception e)
        {
            _failure = await _sandbox.ReasonOfAsync(e, cancellationToken) ?? e;
            throw _failure;
        }
    }

    /// <summary>
    /// Holds the sandbox, which is in use then even while the process is silent: its reader is a client that waits. It is held until the
    /// end of the process has been read or this is disposed of.
    /// </summary>
    /// <exception cref="PandoraException">The sandbox has ended.</exception>
    public void Hold()
    {
        if (_lease is null)
        {
            _lease = _sandbox.Use(isUncounted: true);
            // The guest has answered.
            _lease.HasWorked = true;
        }
    }

    /// <summary>Writes to its input, and waits while it does not read. Another caller must read meanwhile.</summary>
    /// <exception cref="PandoraException">The guest does not answer any more.</exception>
    public async Task WriteInputAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        _hasFed = true;
        await _process.WriteInputAsync(bytes, cancellationToken);
        Interlocked.Add(ref _inputBytes, bytes.Length);
        _sandbox.Touch();
    }

    /// <inheritdoc cref="IGuestProcess.IsInputLost"/>
    public bool IsInputLost => _process.IsInputLost;

    /// <inheritdoc cref="IGuestProcess.EndInputAsync"/>
    public Task<bool> EndInputAsync(CancellationToken cancellationToken)
    {
        _hasFed = true;
        return _process.EndInputAsync(cancellationToken);
    }

    /// <inheritdoc cref="IGuestProcess.SignalAsync"/>
    public async Task<bool> SignalAsync(int signal, CancellationToken cancellationToken)
    {
        var line = _sandbox.Audit(AuditOperation.ProcessSignal, Id);
        line.Signal = signal;
        try
        {
            var isDone = await _process.SignalAsync(signal, cancellationToken);
            _sandbox.RecordControl(line, isDone ? null : new PandoraException(PandoraError.ProcessState, "the process has ended"));
            return isDone;
        }
        catch (Exception e)
        {
            // The client left before the answer came.
            _sandbox.RecordControl(line, e is ObjectDisposedException ? new OperationCanceledException() : e);
            throw;
        }
    }

    /// <summary>Kills it and all that it started. It takes a few seconds at most, and nobody may read meanwhile or afterwards.</summary>
    /// <returns>What is known about it then.</returns>
    public async Task<CommandStop> KillAsync()
    {
        var line = _sandbox.Audit(AuditOperation.ProcessSignal, Id);
        line.Signal = Sigkill;
        var stop = await _process.KillAsync();
        _sandbox.RecordControl(line, stop.HasAnswered ? null : new PandoraException(PandoraError.GuestUnreachable, stop.Words));
        return stop;
    }

    /// <inheritdoc cref="IGuestProcess.ResizeAsync"/>
    public Task<bool> ResizeAsync(int columns, int rows, CancellationToken cancellationToken) =>
        _process.ResizeAsync(columns, rows, cancellationToken);

    /// <summary>Records that the front end refuses the client after all, before it has read anything.</summary>
    public void Refuse(PandoraException refusal) => _failure = refusal;

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _isDisposed, 1) == 1)
        {
            return;
        }

        Reader?.Dispose();
        if (CommandStart is null)
        {
            RecordRead();
        }
        else if (End is null)
        {
            await StopAsync(CommandStart.Value);
        }

        await _process.DisposeAsync();
        _lease?.Dispose();
    }

    private async Task StopAsync(long start)
    {
        if (!_sandbox.IsDetaching && _sandbox.End is null)
        {
            var stop = await _process.KillAsync();
            _lease!.HasWorked = stop.HasAnswered;
        }

        _sandbox.RecordStopped(_line, _failure, Stopwatch.GetElapsedTime(start));
    }

    private void RecordRead()
    {
        if (_hasFed)
        {
            var input = _sandbox.Audit(AuditOperation.ProcessInput, Id);
            input.InputBytes = Interlocked.Read(ref _inputBytes);
            _sandbox.RecordControl(input, null);
        }

        _sandbox.RecordRead(_line, _failure, End);
    }

    private void Record()
    {
        if (CommandStart is not { } start)
        {
            // It is no activity any more.
            _lease?.Dispose();
        }
        else if (!_isRecorded)
        {
            _isRecorded = true;
            Elapsed = Stopwatch.GetElapsedTime(start);
            _lease!.HasWorked = End!.Stopped is null or { HasAnswered: true };
            _sandbox.RecordEnd(_line, End, Elapsed.Value);
        }
    }
}
