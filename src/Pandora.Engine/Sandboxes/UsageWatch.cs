using Microsoft.Extensions.Logging;
using Pandora.Vmm;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// Records every <see cref="Interval"/> what the sandboxes use that asked for it. That is no activity of a sandbox. A guest that does not
/// answer has no record of that moment; <see cref="GuestWatch"/> decides whether it lives.
/// </summary>
public sealed partial class UsageWatch(SandboxRegistry sandboxes, TimeProvider time, ILogger<UsageWatch> logger) : IAsyncDisposable
{
    /// <summary>Time between two records.</summary>
    internal static readonly TimeSpan Interval = TimeSpan.FromSeconds(5);

    private const int MaxAtOnce = 64;

    // Shorter than the interval: a guest that hangs must not keep the others from being asked.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);
    private readonly PeriodicWork _work = new(
        "The record of what sandboxes use", Interval, t => RecordAsync(sandboxes, time, logger, t), time, logger);

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _work.DisposeAsync();

    private static async Task RecordAsync(
        SandboxRegistry sandboxes, TimeProvider time, ILogger logger, CancellationToken cancellationToken)
    {
        var watched = sandboxes.All.Where(s => s.Claim.RecordsUsage && s.MicroVm.Agent is not null && s.End is null && !s.IsStalled);
        var options = new ParallelOptions { MaxDegreeOfParallelism = MaxAtOnce, CancellationToken = cancellationToken };
        await Parallel.ForEachAsync(watched.ToList(), options, async (sandbox, token) =>
        {
            using var limit = new CancellationTokenSource(Patience, time);
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, token, sandbox.Ending);
            try
            {
                await sandbox.RecordUsageAsync(stop.Token);
            }
            catch (Exception e) when (e is VmmException or OperationCanceledException && !token.IsCancellationRequested)
            {
                LogSilent(logger, sandbox.Id, e.Message);
            }
        });
    }

    [LoggerMessage(Level = LogLevel.Debug, Message = "The agent of {SandboxId} did not say what it uses: {Error}")]
    private static partial void LogSilent(ILogger logger, string sandboxId, string error);
}
