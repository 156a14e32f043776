using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// Probes the agent in each sandbox's guest every <see cref="Interval"/>: whether it answers, and whether the guest's disks had errors.
/// Ends a sandbox whose agent has not answered for <see cref="Silence"/>: its guest halted, or its kernel hangs, while its VMM still runs.
/// Only the reaper ends sandboxes whose guest has no agent.
/// </summary>
public sealed partial class GuestWatch : IAsyncDisposable
{
    /// <summary>Time between two probes of one guest.</summary>
    internal static readonly TimeSpan Interval = TimeSpan.FromSeconds(15);

    /// <summary>Time without an answer after which a guest counts as dead.</summary>
    internal static readonly TimeSpan Silence = TimeSpan.FromSeconds(60);

    // So many probes fail during the silence of a dead guest. A server that was suspended for a minute has sent fewer, and ends no guest.
    private const int MinUnanswered = 3, MaxAtOnce = 256;
    // A timer tick may come a little early.
    private static readonly TimeSpan Slack = TimeSpan.FromMilliseconds(100);
    private readonly Dictionary<Sandbox, State> _states = [];
    private readonly SandboxRegistry _sandboxes;
    private readonly TimeProvider _time;
    private readonly Func<Sandbox, bool> _isStalled;
    private readonly ILogger _logger;
    private readonly PeriodicWork _work;

    /// <summary>Starts the watch.</summary>
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

    /// <summary>Rounds that have ended.</summary>
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
            // Not awaited, so that the other guests are probed on time.
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
        Message = "The disk of sandbox {SandboxId} had I/O errors: data that it wrote may be lost. Its answers report that from now on")]
    private partial void LogLostData(string sandboxId);

    [LoggerMessage(Level = LogLevel.Debug, Message = "The agent of {SandboxId} did not answer, {Times} times now: {Error}")]
    private partial void LogSilent(string sandboxId, int times, string error);

    private sealed class State
    {
        public long AnsweredAt { get; set; }

        public int Unanswered { get; set; }
    }
}
