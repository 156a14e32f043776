using System.Buffers.Binary;
using System.Collections.Concurrent;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Engine.Guests.Agent;

/// <summary>
/// The server's view of a process that the agent runs. It reads messages when its user reads output, so that a slow user makes the process
/// wait. (1) When the process's time is over, it asks the agent to kill it. (2) When the agent has not answered that within
/// <see cref="KillLimit"/>, the process counts as unreachable.
/// </summary>
internal sealed partial class AgentProcess : IGuestProcess
{
    /// <summary>Longest that the agent may take to kill a process and look what is left.</summary>
    public static readonly TimeSpan KillLimit = TimeSpan.FromSeconds(5);

    private static readonly CommandStop NoAnswer = new(
        CommandOutcome.Unreachable, "it was to be killed, and the guest did not answer: whether it still runs is not known");

    private static readonly CommandStop Lost = new(
        CommandOutcome.Unknown, "the guest's agent ended and was started again: whether the command still runs is not known");

    private readonly MessageParser _parser = new(ProcessMessages.MaxBody);
    private readonly AgentStream _stream;
    private readonly TimeProvider _time;
    private readonly SemaphoreSlim _writing = new(1, 1);
    private readonly CancellationTokenSource _givenUp = new();
    private readonly ConcurrentQueue<TaskCompletionSource<bool>> _toBeDone = new();
    private readonly bool _isReadOnce;
    private readonly ITimer? _limit;
    private ITimer? _killLimit;
    private EndReport? _report;
    private CommandStop? _stop;
    private bool _isStarted;
    private volatile bool _isOver;
    private int _mustKill;
    private volatile bool _isTorn;

    /// <param name="id">Id of the process.</param>
    /// <param name="stream">The stream that starts it or attaches to it.</param>
    /// <param name="limit">Time after which it is killed; null for none.</param>
    /// <param name="isReadOnce">Whether the agent may forget the process when its end was read.</param>
    /// <param name="time">Clock of the limits.</param>
    public AgentProcess(string id, AgentStream stream, TimeSpan? limit, bool isReadOnce, TimeProvider time)
    {
        (Id, _stream, _isReadOnce, _time) = (id, stream, isReadOnce, time);
        _limit = limit is { } duration ? time.CreateTimer(_ => AskToKill(), null, duration, Timeout.InfiniteTimeSpan) : null;
    }

    /// <inheritdoc/>
    public string Id { get; }

    /// <inheritdoc/>
    public int Pid { get; private set; }

    /// <inheritdoc/>
    public ProcessFacts Facts { get; private set; }

    /// <inheritdoc/>
    public ProcessEnd? End { get; private set; }

    /// <summary>Waits until the agent has started the process.</summary>
    /// <exception cref="PandoraException">The agent could not, or does not answer.</exception>
    public async Task WaitForStartAsync(CancellationToken cancellationToken)
    {
        while (!_isStarted && !_isOver)
        {
            if (await ReceiveAsync(cancellationToken) is not null)
            {
                throw Broken("it sends output of a process that it did not start");
            }
        }
    }

    /// <inheritdoc/>
    public async ValueTask<ProcessOutput?> ReadAsync(CancellationToken cancellationToken)
    {
        while (!_isOver)
        {
            if (await ReceiveAsync(cancellationToken) is { } output)
            {
                return output;
            }
        }

        return End is null ? throw Broken("it was lost before") : null;
    }

    /// <inheritdoc/>
    public Task<bool> SignalAsync(int signal, CancellationToken cancellationToken)
    {
        var body = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(body, signal);
        return AskAsync(ProcessMessage.Signal, body, cancellationToken);
    }

    /// <inheritdoc/>
    public Task<bool> ResizeAsync(int columns, int rows, CancellationToken cancellationToken)
    {
        var body = new byte[4];
        BinaryPrimitives.WriteUInt16LittleEndian(body, (ushort)columns);
        BinaryPrimitives.WriteUInt16LittleEndian(body.AsSpan(2), (ushort)rows);
        return AskAsync(ProcessMessage.Resize, body, cancellationToken);
    }

    /// <inheritdoc/>
    public async Task<CommandStop> KillAsync()
    {
        if (_stream.TryWithdraw())
        {
            return CommandStop.NotStarted;
        }

        AskToKill();
        try
        {
            while (await ReadAsync(CancellationToken.None) is not null)
            {
                // Nobody wants it.
            }
        }
        catch (PandoraException e)
        {
            return e.Stop ?? Lost;
        }

        // Killed by the agent, or not reachable for the kill.
        return _stop ?? new CommandStop(CommandOutcome.Killed, "it had ended by itself");
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _givenUp.CancelAsync();
        await (_limit?.DisposeAsync() ?? default);
        await (_killLimit?.DisposeAsync() ?? default);
        _stream.Close(mustForget: _isReadOnce && _report is not null);
        SetOver();
    }

    private void AskToKill()
    {
        if (_stream.TryWithdraw())
        {
            // The guest has received nothing and never will: the reader need not wait for an answer.
            _ = _givenUp.CancelAsync();
        }
        else if (Interlocked.Exchange(ref _mustKill, 1) == 0)
        {
            _killLimit = _time.CreateTimer(_ => _ = _givenUp.CancelAsync(), null, KillLimit, Timeout.InfiniteTimeSpan);
            _ = AskToKillAsync();
        }
    }

    private async Task AskToKillAsync()
    {
        try
        {
            await SendAsync(ProcessMessage.Kill, ReadOnlyMemory<byte>.Empty, _givenUp.Token);
        }
        catch (Exception e) when (e is PandoraException or OperationCanceledException or ObjectDisposedException)
        {
            // The reader finds out.
        }
    }

    private async Task<bool> AskAsync(ProcessMessage kind, ReadOnlyMemory<byte> body, CancellationToken cancellationToken)
    {
        var done = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
        await SendAsync(kind, body, cancellationToken, done);
        return await done.Task.WaitAsync(cancellationToken);
    }

    private async Task SendAsync(
        ProcessMessage kind, ReadOnlyMemory<byte> body, CancellationToken cancellationToken, TaskCompletionSource<bool>? done = null)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _givenUp.Token);
        await _writing.WaitAsync(stop.Token);
        try
        {
            if (_isTorn)
            {
                throw Broken("a message to it was cut");
            }

            if (done is not null)
            {
                // In the order in which the agent answers.
                _toBeDone.Enqueue(done);
                if (_isOver)
                {
                    SetOver();
                    return;
                }
            }

            // Cancelled in the middle, the next message would be taken for the rest of this one.
            _isTorn = true;
            await _stream.WriteAsync(ProcessMessages.Encode(kind, body.Span), stop.Token);
            _isTorn = false;
        }
        catch (IOException e)
        {
            throw Broken(e.Message, e);
        }
        finally
        {
            _writing.Release();
        }
    }

    // Takes one message; returns the output in it, if it has any.
    private async ValueTask<ProcessOutput?> ReceiveAsync(CancellationToken cancellationToken)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _givenUp.Token);
        try
        {
            ProcessMessage kind;
            ReadOnlyMemory<byte> body;
            // A guest that never stops sending must not outlive its limits.
            stop.Token.ThrowIfCancellationRequested();
            while (!_parser.TryRead(out kind, out body))
            {
                var count = await _stream.ReadAsync(_parser.Room, stop.Token);
                if (count == 0)
                {
                    throw new IOException("the guest's agent closed the stream");
                }

                _parser.Received(count);
            }

            return Take(kind, body);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            if (_stream.TryWithdraw())
            {
                SetOver();
                throw PandoraException.NotSent("the guest's agent did not take the command within its timeout");
            }

            // The agent's answer to the kill did not come in time.
            Finish(_stop ?? NoAnswer);
            return null;
        }
        catch (FormatException e)
        {
            SetOver();
            throw Broken($"it sent what cannot be: {e.Message}", e);
        }
        catch (IOException e)
        {
            SetOver();
            throw Broken(e.Message, e);
        }
    }

    private ProcessOutput? Take(ProcessMessage kind, ReadOnlyMemory<byte> body)
    {
        switch (kind)
        {
            case ProcessMessage.Started when !_isStarted:
                var started = StartedReport.Decode(body.Span);
                (Pid, Facts) = (started.Pid, AgentGuest.ToFacts(started.Facts));
                _isStarted = true;
                return null;
            case ProcessMessage.Output when _isStarted && _report is null && body.Length > ProcessMessages.OutputPrefix:
                var (stream, offset) = ((OutputStream)body.Span[8], BinaryPrimitives.ReadInt64LittleEndian(body.Span));
                return stream is OutputStream.Stdout or OutputStream.Stderr && offset >= 0 && offset <= long.MaxValue - body.Length
                    ? new ProcessOutput(stream, offset, body[ProcessMessages.OutputPrefix..])
                    : throw new FormatException("there is no such output");
            case ProcessMessage.Ended when _isStarted && _report is null:
                _report = EndReport.Decode(body.Span);
                if (Volatile.Read(ref _mustKill) == 0)
                {
                    Finish(_report.HasReachedLimit ? Interpret(_report.Kill) : null);
                }
                else if (_stop is not null)
                {
                    Finish(_stop);
                }

                return null;
            case ProcessMessage.Killed when Volatile.Read(ref _mustKill) == 1 && body.Length == 1:
                _stop = Interpret((KillReport)body.Span[0]);
                if (_report is not null || !((KillReport)body.Span[0]).HasFlag(KillReport.HasEnded))
                {
                    Finish(_stop);
                }

                return null;
            case ProcessMessage.Taken when _isStarted && body.Length == 8:
                var taken = BinaryPrimitives.ReadInt64LittleEndian(body.Span);
                if (taken < _inputTaken || taken > ProcessMessages.InputWindow + Volatile.Read(ref _inputSent))
                {
                    throw new FormatException("input is taken that was not sent");
                }

                Volatile.Write(ref _inputTaken, taken);
                SignalInput();
                return null;
            case ProcessMessage.InputLost when _isStarted && body.Length == 0:
                _isInputLost = true;
                SignalInput();
                return null;
            case ProcessMessage.Done when _isStarted && body.Length == 1 && _toBeDone.TryDequeue(out var done):
                done.TrySetResult(body.Span[0] == 1);
                return null;
            case ProcessMessage.Failed when !_isStarted:
                throw Failure(FailureReport.Decode(body.Span));
            default:
                throw new FormatException($"a message {(int)kind}");
        }
    }

    private void SetOver()
    {
        _isOver = true;
        SignalInput();
        while (_toBeDone.TryDequeue(out var done))
        {
            done.TrySetResult(false);
        }
    }

    private void Finish(CommandStop? stop)
    {
        _stop = stop;
        End = _report is { } report
            ? AgentGuest.ToEnd(report) with { ExitCode = stop is null ? report.ExitCode : 137, Stopped = stop }
            : new ProcessEnd(137) { Stopped = stop };
        SetOver();
    }

    /// <summary>Says what the agent found after a kill.</summary>
    public static CommandStop Interpret(KillReport report)
    {
        List<string> findings = [];
        if (report.HasFlag(KillReport.HasNoGroup))
        {
            findings.Add("the guest has no cgroup v2, which would show all of its processes");
        }
        else if (!report.HasFlag(KillReport.IsGroupEmpty))
        {
            findings.Add("its cgroup has processes that did not die");
        }

        if (!report.HasFlag(KillReport.HasNoStrays))
        {
            findings.Add("a process that it started lives outside its cgroup");
        }

        if (!report.HasFlag(KillReport.HasEnded))
        {
            findings.Add("its shell was not seen to end");
        }

        return findings.Count == 0
            ? new CommandStop(
                CommandOutcome.Killed, "it was killed: its shell has ended, its cgroup is empty, and no process bears its mark")
            : new CommandStop(
                CommandOutcome.Unknown, $"it was to be killed, but {string.Join(", and ", findings)}: whether it still runs is not known");
    }

    /// <summary>The error for a request that the agent refused.</summary>
    public static PandoraException Failure(FailureReport failure) => failure.Kind switch
    {
        FailureKind.Process => PandoraException.OfGuest(PandoraError.ProcessNotFound, GuestText.Printable(failure.Reason)),
        FailureKind.User => Invalid("user", failure),
        FailureKind.Directory => Invalid("cwd", failure),
        FailureKind.Program => Invalid("code", failure),
        _ => PandoraException.NotSent(GuestText.Printable(failure.Reason), hasGuestWords: true),
    };

    private static PandoraException Invalid(string field, FailureReport failure) =>
        PandoraException.OfGuest(PandoraError.InvalidRequest, GuestText.Printable(failure.Reason), field);

    private PandoraException Broken(string reason, Exception? innerException = null) => _stream.IsSent
        ? new PandoraException(
            PandoraError.GuestUnreachable,
            $"the guest's agent cannot be reached any more ({GuestText.Printable(reason)}); the command may have run in part and "
                + "was not repeated",
            innerException: innerException)
        { Stop = Lost with { HasAnswered = false }, HasGuestWords = true }
        : PandoraException.NotSent(
            $"the guest's agent cannot be reached ({GuestText.Printable(reason)})", innerException, hasGuestWords: true);
}
