using Microsoft.Extensions.Logging;
using Pandora.Vmm;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// Records every <see cref="Interval"/> what the sandboxes use that asked for it. That is no activity of a sandbox. A guest that does not
/// answer has no record of that moment; <see cref="GuestWatch"/> decides whether it lives.
/// </summary>
public sealed partial class UsageWatch : IAsyncDisposable
{
    /// <summary>Time between two records of a sandbox. The first comes after half of it at most.</summary>
    internal static readonly TimeSpan Interval = TimeSpan.FromSeconds(5);

    private const int MaxAtOnce = 64;

    // Shorter than a round: a guest that hangs must not keep the others from being asked.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);
    private readonly SandboxRegistry _sandboxes;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly PeriodicWork _work;
    private int _rounds;

    /// <summary>Starts the watch.</summary>
    public UsageWatch(SandboxRegistry sandboxes, TimeProvider time, ILogger<UsageWatch> logger)
    {
        (_sandboxes, _time, _logger) = (sandboxes, time, logger);
        _work = new PeriodicWork("The record of what sandboxes use", Interval / 2, RecordAsync, time, logger);
    }

    /// <summary>Number of rounds that were finished.</summary>
    internal int Rounds => Volatile.Read(ref _rounds);

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _work.DisposeAsync();

    // Each second round asks all, and the others only those that have no record yet.
    private async Task RecordAsync(CancellationToken cancellationToken)
    {
        var isForAll = _rounds % 2 == 1;
        var watched = _sandboxes.All.Where(
            s => s.Claim.RecordsUsage && s.MicroVm.Agent is not null && s.End is null && !s.IsStalled && (isForAll || !s.HasUsage));
        var options = new ParallelOptions { MaxDegreeOfParallelism = MaxAtOnce, CancellationToken = cancellationToken };
        await Parallel.ForEachAsync(watched.ToList(), options, async (sandbox, token) =>
        {
            using var limit = new CancellationTokenSource(Patience, _time);
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, token, sandbox.Ending);
            try
            {
                await sandbox.RecordUsageAsync(stop.Token);
            }
            catch (Exception e) when (e is VmmException or OperationCanceledException && !token.IsCancellationRequested)
            {
                LogSilent(sandbox.Id, e.Message);
            }
        });
        Interlocked.Increment(ref _rounds);
    }

    [LoggerMessage(Level = LogLevel.Debug, Message = "The agent of {SandboxId} did not say what it uses: {Error}")]
    private partial void LogSilent(string sandboxId, string error);
}
