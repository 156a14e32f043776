using System.Diagnostics;
using Pandora.Engine.Guests;

namespace Pandora.Engine.Sandboxes;

// Processes in a sandbox: started, found, read, fed, signalled. A client that goes away ends none of them.
public sealed partial class Sandbox
{
    // Each takes a stream to the guest; the streams that are left serve commands and control.
    private const int MaxReaders = 1024;
    private int _readers;

    /// <summary>Starts a command: its output is read as it comes, and its input is written by the caller. Disposing of it before
    /// its end kills it.</summary>
    /// <exception cref="PandoraException">The request is invalid, the guest does not answer, or the sandbox has ended.</exception>
    public Task<SandboxProcess> StartCommandAsync(GuestCommand command, CancellationToken cancellationToken)
    {
        var line = AuditCommand(AuditOperation.Exec, () => AuditedCommand.Of(command.Code));
        return OperateAsync(line, async stop =>
        {
            RequestLimits.Check(command, _node.Options);
            MustNotBeStalled();
            var lease = Use(isExec: true);
            try
            {
                await _whenListed.WaitAsync(stop);
                var start = Stopwatch.GetTimestamp();
                var process = await MicroVm.Guest.StartAsync(command.ToSpec(), stop);
                lease.HasWorked = true;
                // A server that stops leaves it to the next one, and does not wait for it.
                lease.EndCommand();
                line.ProcessId = process.Id;
                return new SandboxProcess(this, process, lease, line) { CommandStart = start };
            }
            catch (Exception e)
            {
                lease.HasWorked = e is PandoraException { Error: PandoraError.InvalidRequest };
                lease.Dispose();
                throw;
            }
        }, cancellationToken);
    }

    /// <summary>Starts a process in the background.</summary>
    /// <exception cref="PandoraException">The request is invalid, the guest does not answer, or the sandbox has ended.</exception>
    public Task<ProcessInfo> StartProcessAsync(ProcessSpec spec, CancellationToken cancellationToken)
    {
        var line = AuditCommand(AuditOperation.ProcessStart, () => AuditedCommand.Of(spec));
        return OperateAsync(line, async stop =>
        {
            RequestLimits.Check(spec, _node.Options);
            MustNotBeStalled();
            string id;
            using (var lease = Use(isExec: true))
            {
                try
                {
                    await using var started = await MicroVm.Guest.StartAsync(spec, stop);
                    line.ProcessId = id = started.Id;
                    lease.HasWorked = true;
                }
                catch (PandoraException e) when (e.Error == PandoraError.InvalidRequest)
                {
                    // The guest answered, and refused the request.
                    lease.HasWorked = true;
                    throw;
                }
            }

            if (spec.KeepsAlive)
            {
                HoldWhileRuns(id, Timeout.InfiniteTimeSpan);
            }

            var process = await MicroVm.Guest.GetAsync(id, stop);
            RecordDone(line);
            return process;
        }, cancellationToken);
    }

    /// <summary>Starts a process in the background, and reads it from its first byte. Disposing of it does not end the process.</summary>
    /// <exception cref="PandoraException">The request is invalid, the guest does not answer, or the sandbox has ended.</exception>
    public Task<SandboxProcess> OpenProcessAsync(ProcessSpec spec, CancellationToken cancellationToken)
    {
        var line = AuditCommand(AuditOperation.ProcessStart, () => AuditedCommand.Of(spec));
        return OperateAsync(line, async stop =>
        {
            RequestLimits.Check(spec, _node.Options);
            MustNotBeStalled();
            var reader = AddReader();
            try
            {
                using var lease = Use(isExec: true);
                IGuestProcess process;
                try
                {
                    process = await MicroVm.Guest.StartAsync(spec, stop);
                }
                catch (PandoraException e) when (e.Error == PandoraError.InvalidRequest)
                {
                    // The guest answered, and refused the request.
                    lease.HasWorked = true;
                    throw;
                }

                lease.HasWorked = true;
                line.ProcessId = process.Id;
                RecordDone(line);
                return new SandboxProcess(this, process, lease: null, Audit(AuditOperation.ProcessAttach, process.Id)) { Reader = reader };
            }
            catch
            {
                reader.Dispose();
                throw;
            }
        }, cancellationToken);
    }

    /// <summary>Reads a process that was started before. Disposing of it does not end the process.</summary>
    /// <exception cref="PandoraException">There is no such process, the guest does not answer, or the sandbox has ended.</exception>
    public Task<SandboxProcess> AttachAsync(string id, ReadFrom from, CancellationToken cancellationToken)
    {
        var line = Audit(AuditOperation.ProcessAttach, id);
        return OperateAsync(line, async stop =>
        {
            var reader = AddReader();
            try
            {
                var process = await AttachToGuestAsync(id, from, stop);
                _reattached?.TryAdd(id, true);
                // A command that a client waits for is an activity.
                var lease = process.Facts.IsForeground ? Use() : null;
                if (lease is not null)
                {
                    // The guest has answered.
                    lease.HasWorked = true;
                }

                return new SandboxProcess(this, process, lease, line) { Reader = reader };
            }
            catch
            {
                reader.Dispose();
                throw;
            }
        }, cancellationToken);
    }

    /// <summary>Lists the processes, running and ended, in the order in which they were started.</summary>
    /// <exception cref="PandoraException">The guest does not answer, or the sandbox has ended.</exception>
    public Task<IReadOnlyList<ProcessInfo>> ListProcessesAsync(CancellationToken cancellationToken) =>
        OperateAsync(line: null, MicroVm.Guest.ListAsync, cancellationToken);

    /// <summary>Shows a process.</summary>
    /// <exception cref="PandoraException">There is no such process, the guest does not answer, or the sandbox has ended.</exception>
    public Task<ProcessInfo> GetProcessAsync(string id, CancellationToken cancellationToken) =>
        OperateAsync(
            line: null, stop => IsId(id) ? MicroVm.Guest.GetAsync(id, stop) : throw NoProcess(id), cancellationToken);

    /// <summary>Waits for the end of a process.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="limit">Longest wait.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The process at its end, or as it is after the limit.</returns>
    /// <exception cref="PandoraException">There is no such process, the guest does not answer, or the sandbox has ended.</exception>
    public Task<ProcessInfo> WaitForProcessAsync(string id, TimeSpan limit, CancellationToken cancellationToken) =>
        OperateAsync(line: null, async stop =>
        {
            using var reader = AddReader();
            await using (var process = await AttachToGuestAsync(id, ReadFrom.Nothing, stop))
            {
                _reattached?.TryAdd(id, true);
                using var over = new CancellationTokenSource(limit, _time);
                using var either = CancellationTokenSource.CreateLinkedTokenSource(stop, over.Token);
                try
                {
                    await process.ReadToEndAsync(either.Token);
                }
                catch (OperationCanceledException) when (!stop.IsCancellationRequested)
                {
                    // It runs on.
                }
            }

            return await MicroVm.Guest.GetAsync(id, stop);
        }, cancellationToken);

    /// <summary>Sends a signal, 1 to 64, to a process and its group.</summary>
    /// <exception cref="PandoraException">There is no such process, or it has ended.</exception>
    public Task SignalProcessAsync(string id, int signal, CancellationToken cancellationToken)
    {
        var line = Audit(AuditOperation.ProcessSignal, id);
        line.Signal = signal;
        return ControlAsync(id, line, (process, stop) => process.SignalAsync(signal, stop), cancellationToken);
    }

    /// <summary>Sets the size of a process's terminal.</summary>
    /// <exception cref="PandoraException">There is no such process, it has no terminal, or it has ended.</exception>
    public Task ResizeProcessAsync(string id, int columns, int rows, CancellationToken cancellationToken) =>
        ControlAsync(
            id,
            line: null,
            (process, stop) => process.Facts.HasTerminal
                ? process.ResizeAsync(columns, rows, stop)
                : throw new PandoraException(PandoraError.ProcessState, $"process '{id}' has no terminal"),
            cancellationToken);

    /// <summary>Restarts the idle clock, because bytes have moved.</summary>
    internal void Touch()
    {
        lock (_lock)
        {
            (_lastActivity, _hasFailed) = (_time.GetTimestamp(), false);
        }
    }

    private static bool IsId(string id) => id.Length is > 0 and <= 64 && id.All(char.IsAsciiLetterOrDigit);

    private static PandoraException NoProcess(string id) =>
        new(PandoraError.ProcessNotFound, $"there is no process '{(id.Length > 64 ? id[..64] + "…" : id)}'");

    private Task<IGuestProcess> AttachToGuestAsync(string id, ReadFrom from, CancellationToken cancellationToken) =>
        IsId(id) ? MicroVm.Guest.AttachAsync(id, from, cancellationToken) : throw NoProcess(id);

    private Task<bool> ControlAsync(
        string id, AuditLine? line, Func<IGuestProcess, CancellationToken, Task<bool>> act, CancellationToken cancellationToken) =>
        ControlAsync(id, line, (process, _, stop) => act(process, stop), cancellationToken);

    // The task that the action is given completes at the end of the process.
    private Task<bool> ControlAsync(
        string id, AuditLine? line, Func<IGuestProcess, Task, CancellationToken, Task<bool>> act, CancellationToken cancellationToken) =>
        OperateAsync(line, async stop =>
        {
            await using var process = await AttachToGuestAsync(id, ReadFrom.Nothing, stop);
            using var done = CancellationTokenSource.CreateLinkedTokenSource(stop);
            var reading = process.ReadToEndAsync(done.Token);
            try
            {
                var acting = act(process, reading, done.Token);
                if (await Task.WhenAny(acting, reading) == reading && !reading.IsCompletedSuccessfully)
                {
                    // The guest is lost, so that no answer comes.
                    await done.CancelAsync();
                    await ((Task)acting).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                    await reading;
                }

                if (!await acting)
                {
                    throw new PandoraException(PandoraError.ProcessState, $"process '{id}' has ended");
                }
            }
            finally
            {
                await done.CancelAsync();
                await reading.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }

            Touch();
            if (line is not null)
            {
                RecordDone(line);
            }

            return true;
        }, cancellationToken);

    // Runs an operation, and says how the sandbox ended when it ends meanwhile. A failure is recorded in the line of the operation; success
    // is recorded by the operation itself, at its end. An operation that only reads a state has no line.
    private async Task<T> OperateAsync<T>(
        AuditLine? line, Func<CancellationToken, Task<T>> operate, CancellationToken cancellationToken,
        SandboxOperation operation = SandboxOperation.Process)
    {
        try
        {
            _node.MustServe();
            if (End is { } ended)
            {
                throw Ended(Id, ended);
            }

            using var linked = StopOf(cancellationToken);
            try
            {
                return await operate(linked.Token);
            }
            catch (Exception e)
            {
                throw await ReasonOfAsync(e, cancellationToken) ?? e;
            }
        }
        catch (Exception e)
        {
            if (line is null)
            {
                _node.Journal.Failed(operation, e);
            }
            else
            {
                RecordFailed(line, e);
            }

            throw;
        }
    }

    /// <summary>The answer to a client in place of an error: how the sandbox ended, or that the server stops. Null for the error
    /// itself.</summary>
    internal async Task<Exception?> ReasonOfAsync(Exception error, CancellationToken cancellationToken)
    {
        if (error is PandoraException { Error: not PandoraError.GuestUnreachable } || cancellationToken.IsCancellationRequested)
        {
            return null;
        }

        if (error is PandoraException)
        {
            // The server may see the end of the connection before the end of the VMM.
            await Task.Delay(TimeSpan.FromMilliseconds(200), _time, Ending).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        return End is { } end ? Ended(Id, end)
            : error is OperationCanceledException && _node.Detaching.IsCancellationRequested ? NextServerKnows()
            : null;
    }

    private static PandoraException NextServerKnows() => new(
        PandoraError.ShuttingDown,
        "the server is shutting down; the process runs on, and the next server knows it by its id");

    private void MustNotBeStalled()
    {
        if (IsStalled)
        {
            throw new PandoraException(
                PandoraError.HostFull,
                $"sandbox '{Id}' waits for room on the server's disk, and continues when there is room: nothing was run");
        }
    }

    /// <summary>Whether the server stops, and interrupts what runs.</summary>
    internal bool IsDetaching => _node.Detaching.IsCancellationRequested;

    /// <summary>Cancelled with a client's token, when the sandbox begins to end, and when the server stops.</summary>
    internal CancellationTokenSource StopOf(CancellationToken cancellationToken) =>
        CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, Ending, _node.Detaching);

    private Reader AddReader()
    {
        if (Interlocked.Increment(ref _readers) > MaxReaders)
        {
            Interlocked.Decrement(ref _readers);
            throw new PandoraException(
                PandoraError.TooManyExecs, $"{MaxReaders} clients read processes in this sandbox, and no more may at once");
        }

        return new Reader(this);
    }

    /// <summary>A client that reads a process.</summary>
    internal sealed class Reader(Sandbox sandbox) : IDisposable
    {
        private int _isOver;

        /// <inheritdoc/>
        public void Dispose()
        {
            if (Interlocked.Exchange(ref _isOver, 1) == 0)
            {
                Interlocked.Decrement(ref sandbox._readers);
            }
        }
    }
}
