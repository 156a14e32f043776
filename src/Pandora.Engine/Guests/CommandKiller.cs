using System.Collections.Concurrent;
using System.Net.Sockets;
using Microsoft.Extensions.Logging;
using Renci.SshNet;
using Renci.SshNet.Common;

namespace Pandora.Engine.Guests;

/// <summary>
/// Kills commands in one guest, and looks up afterwards what is left of them. All that wait are killed together, up to
/// <see cref="MostAtOnce"/>, in a time that what else runs in the guest does not make longer:
/// (1) by the connection that is open, if its gate is to be had soon; else (2) by a connection of its own.
/// </summary>
/// <param name="current">The connection that commands run on.</param>
/// <param name="connect">Opens another one.</param>
/// <param name="close">Closes that one, and returns at once.</param>
/// <param name="gate">See <see cref="SshGuest"/>.</param>
/// <param name="time">Keeps the limits.</param>
/// <param name="logger">For what went wrong.</param>
internal sealed partial class CommandKiller(
    Func<SshClient> current, Func<CancellationToken, Task<SshClient>> connect, Action<SshClient> close,
    SemaphoreSlim gate, TimeProvider time, ILogger logger)
{
    /// <summary>Longest that the guest may take to answer when it is asked to kill commands.</summary>
    public static readonly TimeSpan Limit = TimeSpan.FromSeconds(4.5);

    /// <summary>Longest that a command waits until the guest is asked to kill it. It is longer than <see cref="Limit"/>, for which those
    /// may take that are being killed then.</summary>
    internal static readonly TimeSpan QueueLimit = TimeSpan.FromSeconds(5);

    /// <summary>Longest that a command's caller waits to hear what became of it.</summary>
    public static readonly TimeSpan LongestWait = QueueLimit + Limit;

    /// <summary>Most commands that are killed by one script, which must not be too long.</summary>
    internal const int MostAtOnce = 60;

    private const int Looks = 40;
    private static readonly TimeSpan GateLimit = TimeSpan.FromSeconds(0.5);
    private static readonly TimeSpan CurrentLimit = TimeSpan.FromSeconds(2.5);
    private static readonly TimeSpan CloseLimit = TimeSpan.FromSeconds(0.7);
    private static readonly CommandStop Silent = new(
        CommandOutcome.Unreachable, "it was to be killed, and no answer came from the guest: whether it runs on is not known");

    private static readonly CommandStop NotAsked = new(
        CommandOutcome.Unknown,
        "it was to be killed, but other commands are killed first and the guest has not been asked yet: whether it runs on is not known")
    {
        HasAnswered = false,
    };

    private readonly ConcurrentQueue<Request> _waiting = new();
    private int _isRunning;

    /// <summary>Kills a command that was sent, and tells what is known of it then.</summary>
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
            // It is killed all the same when its turn comes.
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
        if (!await TryByCurrentAsync(batch, limit.Token))
        {
            await ByOwnAsync(batch, limit.Token);
        }
    }

    private async Task<bool> TryByCurrentAsync(List<Request> batch, CancellationToken cancellationToken)
    {
        var client = current();
        if (!client.IsConnected || !await gate.WaitAsync(GateLimit, cancellationToken))
        {
            return false;
        }

        var asking = Task.FromResult("");
        try
        {
            await KillByAsync(
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
            return batch.All(r => r.Last != Silent);
        }
        finally
        {
            // A script that is not waited for any more still ends, and no channel may be opened then.
            _ = asking.ContinueWith(_ => gate.Release(), TaskScheduler.Default);
        }
    }

    private async Task ByOwnAsync(List<Request> batch, CancellationToken cancellationToken)
    {
        SshClient? client = null;
        // The shells that are killed run on the other connection: no channel should be opened on it meanwhile. The gate is not waited for,
        // because a command that opens one may hold it for too long.
        var isGateHeld = await gate.WaitAsync(TimeSpan.Zero, cancellationToken);
        try
        {
            client = await connect(cancellationToken);
            await KillByAsync(batch, script => SshExec.RunBoundedAsync(client, script, cancellationToken), cancellationToken);
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

    private async Task KillByAsync(List<Request> batch, Func<string, Task<string>> ask, CancellationToken cancellationToken)
    {
        // The second time for those whose shells had not joined their cgroups the first time.
        for (var round = 0; round < 2; round++)
        {
            var left = batch.Where(r => !r.Done.Task.IsCompleted).ToList();
            var answer = await ask(ExecScript.Kill([.. left.Select(r => (r.Exec.Group, r.Exec.Tag))], Looks));
            var closed = Task.WhenAll(left.Select(r => r.Exec.Closed)).WaitAsync(CloseLimit, time, cancellationToken);
            await closed.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            foreach (var request in left)
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
    /// What a guest's answer to <see cref="ExecScript.Kill"/> says of a command. The guest's root can make it say anything.
    /// </summary>
    internal static CommandStop Interpret(string answer, int group, bool hasShellGone)
    {
        var lines = answer.Split('\n');
        if (lines is not [var first, var second, "end", ""] || first.Split(' ') is not ["empty", .. var empty]
            || second.Split(' ') is not ["left", .. var left])
        {
            return new CommandStop(
                CommandOutcome.Unknown,
                "it was to be killed, and the guest could not look up what is left of it: whether it runs on is not known");
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
                CommandOutcome.Unknown, $"it was to be killed, but {string.Join(", and ", findings)}: whether it runs on is not known");
    }

    private static bool IsExpected(Exception e) =>
        e is SshException or TimeoutException or ObjectDisposedException or InvalidOperationException or SocketException
            or OperationCanceledException or PandoraException;

    [LoggerMessage(Level = LogLevel.Debug, Message = "Commands could not be killed in the guest: {Error}")]
    private partial void LogFailed(string error);

    private sealed record Request(SshExec Exec)
    {
        private volatile CommandStop _last = Silent;

        /// <summary>What is known so far, once it is taken.</summary>
        public CommandStop Last
        {
            get => _last;
            set => _last = value;
        }

        /// <summary>Completes when it is among those that the guest is asked to kill.</summary>
        public TaskCompletionSource Taken { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        /// <summary>Completes when nothing more will be known.</summary>
        public TaskCompletionSource Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
