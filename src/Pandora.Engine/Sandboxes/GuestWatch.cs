using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// Asks the agent in each sandbox's guest, every <see cref="Interval"/>, whether it is there and whether its disks had errors, and ends a
/// sandbox whose agent has not answered for <see cref="Silence"/>: a guest that halted, or whose kernel hangs, while its VMM runs on.
/// Guests without an agent are left to the reaper.
/// </summary>
public sealed partial class GuestWatch : IAsyncDisposable
{
    /// <summary>Time between two questions to one guest.</summary>
    internal static readonly TimeSpan Interval = TimeSpan.FromSeconds(15);

    /// <summary>Silence after which a guest is dead.</summary>
    internal static readonly TimeSpan Silence = TimeSpan.FromSeconds(60);

    // In so long a silence so many questions come to nothing. A server that was itself stopped for a minute has asked fewer.
    private const int MinUnanswered = 3, MaxAtOnce = 256;
    // A tick may come a little early.
    private static readonly TimeSpan Slack = TimeSpan.FromMilliseconds(100);
    private readonly Dictionary<Sandbox, State> _states = [];
    private readonly SandboxRegistry _sandboxes;
    private readonly TimeProvider _time;
    private readonly Func<Sandbox, bool> _isStalled;
    private readonly ILogger _logger;
    private readonly PeriodicWork _work;

    /// <summary>Starts it.</summary>
    public GuestWatch(SandboxRegistry sandboxes, TimeProvider time, ILogger<GuestWatch> logger)
        : this(sandboxes, static s => s.IsStalled, time, logger)
    {
    }

    internal GuestWatch(SandboxRegistry sandboxes, Func<Sandbox, bool> isStalled, TimeProvider time, ILogger logger)
    {
        _sandboxes = sandboxes;
        _isStalled = isStalled;
        _time = time;
        _logger = logger;
        _work = new PeriodicWork("The watch over guests", Interval, CheckAsync, time, logger);
    }

    /// <summary>Rounds that are done.</summary>
    internal int Rounds { get; private set; }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _work.DisposeAsync();

    private async Task CheckAsync(CancellationToken cancellationToken)
    {
        var watched = _sandboxes.All.Where(s => s.MicroVm.Agent is not null && s.End is null).ToList();
        foreach (var gone in _states.Keys.Except(watched).ToList())
        {
            _states.Remove(gone);
        }

        foreach (var sandbox in watched)
        {
            _states.TryAdd(sandbox, new State { AnsweredAt = _time.GetTimestamp() });
        }

        var options = new ParallelOptions { MaxDegreeOfParallelism = MaxAtOnce, CancellationToken = cancellationToken };
        await Parallel.ForEachAsync(watched, options, async (sandbox, token) => await CheckAsync(sandbox, _states[sandbox], token));
        Rounds++;
    }

    private async Task CheckAsync(Sandbox sandbox, State state, CancellationToken cancellationToken)
    {
        if (_isStalled(sandbox))
        {
            (state.Unanswered, state.AnsweredAt) = (0, _time.GetTimestamp());
            return;
        }

        if (state.Unanswered >= MinUnanswered && _time.GetElapsedTime(state.AnsweredAt) >= Silence - Slack)
        {
            // Not waited for: the others are asked on time.
            _ = _sandboxes.EndDeadAsync(sandbox, $"its guest's agent has not answered for {Silence.TotalSeconds:0} s");
            return;
        }

        var asked = _time.GetTimestamp();
        try
        {
            if (await sandbox.MicroVm.Agent!.CheckHealthAsync(cancellationToken) > 0 && !sandbox.HasLostData)
            {
                sandbox.HasLostData = true;
                LogLostData(sandbox.Id);
            }

            (state.Unanswered, state.AnsweredAt) = (0, asked);
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            state.Unanswered++;
            LogSilent(sandbox.Id, state.Unanswered, e.Message);
        }
    }

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "The disk of sandbox {SandboxId} had I/O errors: what it wrote may be lost. Its answers say so from now on")]
    private partial void LogLostData(string sandboxId);

    [LoggerMessage(Level = LogLevel.Debug, Message = "The agent of {SandboxId} did not answer, {Times} times now: {Error}")]
    private partial void LogSilent(string sandboxId, int times, string error);

    private sealed class State
    {
        public long AnsweredAt { get; set; }

        public int Unanswered { get; set; }
    }
}
