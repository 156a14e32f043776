using System.Collections.Concurrent;
using System.Net.Sockets;
using Microsoft.Extensions.Logging;
using Renci.SshNet;
using Renci.SshNet.Common;

namespace Pandora.Engine.Guests;

/// <summary>
/// Kills commands in one guest, and checks afterwards which of their processes remain. All waiting commands are killed together, up to
/// <see cref="MostAtOnce"/> at a time. Other work in the guest does not make the kill take longer:
/// (1) it uses the open connection if the gate is free soon; else (2) it opens another connection.
/// </summary>
/// <param name="current">Returns the connection that commands run on.</param>
/// <param name="connect">Opens another connection.</param>
/// <param name="close">Closes a connection that <paramref name="connect"/> opened, and returns at once.</param>
/// <param name="gate">See <see cref="SshGuest"/>.</param>
/// <param name="time">Clock of the limits.</param>
/// <param name="logger">Receives the errors.</param>
internal sealed partial class CommandKiller(
    Func<SshClient> current, Func<CancellationToken, Task<SshClient>> connect, Action<SshClient> close,
    SemaphoreSlim gate, TimeProvider time, ILogger logger)
{
    /// <summary>Longest that the guest may take to answer when it is asked to kill commands.</summary>
    public static readonly TimeSpan Limit = TimeSpan.FromSeconds(4.5);

    /// <summary>Longest that a command waits until the guest is asked to kill it. It is longer than <see cref="Limit"/>, because the
    /// commands before it may take that long.</summary>
    internal static readonly TimeSpan QueueLimit = TimeSpan.FromSeconds(5);

    /// <summary>Longest that a caller waits for the result of the kill.</summary>
    public static readonly TimeSpan LongestWait = QueueLimit + Limit;

    /// <summary>Most commands that one script kills: the script's length is limited.</summary>
    internal const int MostAtOnce = 60;

    private const int KillTries = 40;
    private static readonly TimeSpan GateLimit = TimeSpan.FromSeconds(0.5);
    private static readonly TimeSpan CurrentLimit = TimeSpan.FromSeconds(2.5);
    private static readonly TimeSpan CloseLimit = TimeSpan.FromSeconds(0.7);
    private static readonly CommandStop NoAnswer = new(
        CommandOutcome.Unreachable, "it was to be killed, and the guest did not answer: whether it still runs is not known");

    private static readonly CommandStop NotAsked = new(
        CommandOutcome.Unknown,
        "it was to be killed, but other commands are killed first and the guest has not been asked yet: whether it still runs is not known")
    {
        HasAnswered = false,
    };

    private readonly ConcurrentQueue<Request> _waiting = new();
    private int _isRunning;

    /// <summary>Kills a command that was sent to the guest.</summary>
    /// <returns>What is known about the command afterwards.</returns>
    public async Task<CommandStop> KillAsync(SshExec exec)
    {
        var request = new Request(exec);
        _waiting.Enqueue(request);
        if (Interlocked.Exchange(ref _isRunning, 1) == 0)
        {
            _ = Task.Run(RunAsync);
        }

        await request.Taken.Task.WaitAsync(QueueLimit, time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (!request.Taken.Task.IsCompleted)
        {
            // RunAsync still kills it when its turn comes.
            return NotAsked;
        }

        await request.Done.Task.WaitAsync(Limit, time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return request.Last;
    }

    private async Task RunAsync()
    {
        do
        {
            var batch = new List<Request>();
            try
            {
                while (batch.Count < MostAtOnce && _waiting.TryDequeue(out var request))
                {
                    batch.Add(request);
                    request.Taken.TrySetResult();
                }

                await KillAllAsync(batch);
            }
            catch (Exception e)
            {
                LogFailed(e.Message);
            }
            finally
            {
                batch.ForEach(r => r.Done.TrySetResult());
                Volatile.Write(ref _isRunning, 0);
            }
        }
        while (!_waiting.IsEmpty && Interlocked.Exchange(ref _isRunning, 1) == 0);
    }

    private async Task KillAllAsync(List<Request> batch)
    {
        using var limit = new CancellationTokenSource(Limit, time);
        if (!await TryKillOnCurrentConnectionAsync(batch, limit.Token))
        {
            await KillOnNewConnectionAsync(batch, limit.Token);
        }
    }

    private async Task<bool> TryKillOnCurrentConnectionAsync(List<Request> batch, CancellationToken cancellationToken)
    {
        var client = current();
        if (!client.IsConnected || !await gate.WaitAsync(GateLimit, cancellationToken))
        {
            return false;
        }

        var asking = Task.FromResult("");
        try
        {
            await KillAsync(
                batch,
                script =>
                {
                    asking = SshExec.RunPatientlyAsync(client, script, time);
                    return asking.WaitAsync(CurrentLimit, time, cancellationToken);
                }, cancellationToken);
            return true;
        }
        catch (Exception e) when (IsExpected(e))
        {
            LogFailed(e.Message);
            return batch.All(r => r.Last != NoAnswer);
        }
        finally
        {
            // The script may still run after the wait for it has ended, and no channel may be opened while its shell exits.
            _ = asking.ContinueWith(_ => gate.Release(), TaskScheduler.Default);
        }
    }

    private async Task KillOnNewConnectionAsync(List<Request> batch, CancellationToken cancellationToken)
    {
        SshClient? client = null;
        // The shells that are killed run on the current connection: no channel should be opened there meanwhile. This does not wait for the
        // gate, because a command that is opening a channel may hold it for too long.
        var isGateHeld = await gate.WaitAsync(TimeSpan.Zero, cancellationToken);
        try
        {
            client = await connect(cancellationToken);
            await KillAsync(batch, script => SshExec.RunBoundedAsync(client, script, cancellationToken), cancellationToken);
        }
        catch (Exception e) when (IsExpected(e))
        {
            LogFailed(e.Message);
        }
        finally
        {
            if (isGateHeld)
            {
                gate.Release();
            }

            if (client is not null)
            {
                close(client);
            }
        }
    }

    private async Task KillAsync(List<Request> batch, Func<string, Task<string>> ask, CancellationToken cancellationToken)
    {
        // The second round is for commands whose shells had not yet joined their cgroups in the first.
        for (var round = 0; round < 2; round++)
        {
            var remaining = batch.Where(r => !r.Done.Task.IsCompleted).ToList();
            var answer = await ask(ExecScript.Kill([.. remaining.Select(r => (r.Exec.Group, r.Exec.Tag))], KillTries));
            var closed = Task.WhenAll(remaining.Select(r => r.Exec.Closed)).WaitAsync(CloseLimit, time, cancellationToken);
            await closed.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            foreach (var request in remaining)
            {
                request.Last = Interpret(answer, request.Exec.Group, request.Exec.HasShellGone);
                if (round == 1 || request.Exec.Closed.IsCompleted)
                {
                    request.Done.TrySetResult();
                }
            }

            if (batch.All(r => r.Done.Task.IsCompleted))
            {
                return;
            }
        }
    }

    /// <summary>
    /// Reads from a guest's answer to <see cref="ExecScript.Kill"/> what became of a command. The guest's root can forge the answer.
    /// </summary>
    internal static CommandStop Interpret(string answer, int group, bool hasShellGone)
    {
        var lines = answer.Split('\n');
        if (lines is not [var first, var second, "end", ""] || first.Split(' ') is not ["empty", .. var empty]
            || second.Split(' ') is not ["left", .. var left])
        {
            return new CommandStop(
                CommandOutcome.Unknown,
                "it was to be killed, and the guest could not list its processes: whether it still runs is not known");
        }

        List<string> findings = [];
        if (!empty.Contains($"{group}"))
        {
            findings.Add("its cgroup has processes that did not die");
        }

        if (left.Contains($"{group}"))
        {
            findings.Add("a process that it started lives outside its cgroup");
        }

        if (!hasShellGone)
        {
            findings.Add("its shell was not seen to end");
        }

        const string Killed = "it was killed: its shell has ended, its cgroup is empty, and no process bears its mark";
        return findings.Count == 0
            ? new CommandStop(CommandOutcome.Killed, Killed)
            : new CommandStop(
                CommandOutcome.Unknown, $"it was to be killed, but {string.Join(", and ", findings)}: whether it still runs is not known");
    }

    private static bool IsExpected(Exception e) =>
        e is SshException or TimeoutException or ObjectDisposedException or InvalidOperationException or SocketException
            or OperationCanceledException or PandoraException;

    [LoggerMessage(Level = LogLevel.Debug, Message = "Commands could not be killed in the guest: {Error}")]
    private partial void LogFailed(string error);

    private sealed record Request(SshExec Exec)
    {
        private volatile CommandStop _last = NoAnswer;

        /// <summary>What is known about the command so far; valid once <see cref="Taken"/> is complete.</summary>
        public CommandStop Last
        {
            get => _last;
            set => _last = value;
        }

        /// <summary>Completes when the command is in the batch that the guest is asked to kill.</summary>
        public TaskCompletionSource Taken { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        /// <summary>Completes when <see cref="Last"/> is final.</summary>
        public TaskCompletionSource Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
