using System.Runtime.InteropServices;
using Pandora.Client;

namespace Pandora.Cli.Sessions;

/// <summary>
/// Ctrl-C, SIGTERM and SIGHUP while a command runs. The first Ctrl-C sends SIGINT to the command, the second SIGKILL, and a third leaves at
/// once. SIGTERM and SIGHUP kill the command. Before the command has started each of them ends the request. While results are copied
/// after the command, a second Ctrl-C, SIGTERM and SIGHUP give the copying up.
/// </summary>
/// <param name="leave">Ends this program with an exit code.</param>
/// <param name="say">Tells the user.</param>
/// <param name="time">The clock.</param>
internal sealed class Interruption(Action<int> leave, Action<string> say, TimeProvider time) : IDisposable
{
    // A killed command that does not end within this is not waited for.
    private static readonly TimeSpan KillLimit = TimeSpan.FromSeconds(10), Grace = TimeSpan.FromSeconds(2);
    private readonly CancellationTokenSource _leaving = new(), _givingUp = new();
    private readonly List<PosixSignalRegistration> _registrations = [];
    private Func<string, CancellationToken, Task>? _signal;
    private ITimer? _limit;
    private bool _isCopying;
    private int _count;

    /// <summary>Is cancelled when the command is not to be waited for any more.</summary>
    public CancellationToken Leaving => _leaving.Token;

    /// <summary>The signal that was sent to the command last; null for none.</summary>
    public string? Sent { get; private set; }

    /// <summary>The exit code of this program if the command has none.</summary>
    public int ExitCode { get; private set; } = Failure.Interrupted;

    /// <summary>Listens to the signals of this program.</summary>
    public static Interruption Listen()
    {
        var interruption = new Interruption(Environment.Exit, Console.Error.WriteLine, TimeProvider.System);
        foreach (var signal in new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP })
        {
            interruption._registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                interruption.Receive(signal);
            }));
        }

        return interruption;
    }

    /// <summary>Makes a call whose result must not be lost: when the user stops it, it has some time to end.</summary>
    public async Task<T> FinishAsync<T>(Func<CancellationToken, Task<T>> call)
    {
        using var limit = new CancellationTokenSource();
        await using var grace = time.CreateTimer(_ => limit.Cancel(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        await using var stop = Leaving.Register(() => grace.Change(Grace, Timeout.InfiniteTimeSpan));
        return await call(limit.Token);
    }

    /// <summary>The command has started: signals are for it from now on.</summary>
    /// <param name="signal">Sends a signal to it.</param>
    public void Attach(Func<string, CancellationToken, Task> signal) => _signal = signal;

    /// <summary>The command has ended, and its results are copied from now on.</summary>
    /// <returns>Is cancelled when the copying is to be given up: at once where the user has killed the command.</returns>
    public CancellationToken BeginCopying()
    {
        _isCopying = true;
        if (Sent == "KILL")
        {
            _givingUp.Cancel();
        }

        return _givingUp.Token;
    }

    /// <summary>Acts on a signal.</summary>
    public void Receive(PosixSignal signal)
    {
        ExitCode = signal switch { PosixSignal.SIGTERM => 128 + 15, PosixSignal.SIGHUP => 128 + 1, _ => Failure.Interrupted };
        var isCtrlC = signal == PosixSignal.SIGINT;
        var count = Interlocked.Increment(ref _count);
        if (_isCopying)
        {
            if (isCtrlC && count == 1)
            {
                say("pandora: the results are being copied; Ctrl-C again gives that up");
            }
            else if (!_givingUp.IsCancellationRequested)
            {
                _givingUp.Cancel();
            }
            else
            {
                leave(ExitCode);
            }
        }
        else if (_signal is null)
        {
            if (count > 1)
            {
                leave(ExitCode);
            }

            _leaving.Cancel();
        }
        else if (isCtrlC && count == 1)
        {
            Send("INT", "; Ctrl-C again kills it");
        }
        else if (count <= 2 && Sent != "KILL")
        {
            _limit = time.CreateTimer(_ => _leaving.Cancel(), null, KillLimit, Timeout.InfiniteTimeSpan);
            Send("KILL", isCtrlC ? "; Ctrl-C again leaves at once" : "");
        }
        else
        {
            say("pandora: left at once: whether the command has ended was not checked, nor was its sandbox");
            leave(ExitCode);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _registrations.ForEach(r => r.Dispose());
        _limit?.Dispose();
        _leaving.Dispose();
        _givingUp.Dispose();
    }

    private void Send(string name, string hint)
    {
        Sent = name;
        _ = Task.Run(async () =>
        {
            try
            {
                await _signal!(name, _leaving.Token);
                say($"pandora: SIG{name} was sent to the command{hint}");
            }
            catch (Exception e) when (e is PandoraClientException or OperationCanceledException)
            {
                say($"pandora: SIG{name} could not be sent to the command: {e.Message}{hint}");
            }
        });
    }
}
