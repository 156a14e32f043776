using Microsoft.Extensions.Logging;
using Pandora.Engine.Observability;
using Pandora.Vmm;

namespace Pandora.Engine.MicroVms;

/// <summary>A microVM of an earlier server, as its run directory tells of it.</summary>
/// <param name="Directory">Its run directory, whose name is its id.</param>
/// <param name="Record">Its record, if it can be read.</param>
/// <param name="Problem">Why it cannot be taken over, or null when that can be tried.</param>
internal sealed record Found(string Directory, MicroVmRecord? Record, string? Problem)
{
    /// <summary>The microVM's id.</summary>
    public string Id => Path.GetFileName(Directory);
}

/// <summary>What became of the microVMs of an earlier server.</summary>
/// <param name="Adopted">Those that live on.</param>
/// <param name="Lost">Ids of the others, and why.</param>
internal sealed record Recovered(IReadOnlyList<MicroVm> Adopted, IReadOnlyList<(string Id, string Reason)> Lost);

/// <summary>Takes over the microVMs that an earlier server of this data directory left, and tells which cannot be. The lock on the directory says that nobody else does.</summary>
internal sealed partial class Recovery(EngineMetrics metrics, TimeProvider time, ILogger logger)
{
    /// <summary>How many are taken over at the same time: each waits for its guest most of the time.</summary>
    public const int Parallel = 32;

    /// <summary>Longest that one may take to answer.</summary>
    public static readonly TimeSpan AdoptLimit = TimeSpan.FromSeconds(15);

    /// <summary>Reads what there is.</summary>
    /// <param name="runDirectory">The instance's run directory.</param>
    public static IReadOnlyList<Found> Find(string runDirectory)
    {
        var slots = new HashSet<int>();
        return [.. Directory.GetDirectories(runDirectory).Order(StringComparer.Ordinal).Select(directory =>
        {
            if (!MicroVmRecord.TryRead(directory, out var record, out var problem))
            {
                return new Found(directory, null, problem);
            }

            return new Found(directory, record,
                record.BootId != MicroVmRecord.HostBootId ? "the host was restarted"
                : !record.IsReady || record.Vmm is null ? "it had not come up when its server ended"
                : !slots.Add(record.Slot) ? $"another microVM has its slot {record.Slot}"
                : null);
        })];
    }

    /// <summary>Takes over what can be.</summary>
    /// <param name="found">What there is.</param>
    /// <param name="adopt">Takes over one, or undoes it and throws and says why; its tokens are its time and the server's stop, at which it leaves it as it is.</param>
    /// <param name="undo">Undoes one that cannot be taken over.</param>
    /// <param name="cancellationToken">Ends it; what was not reached by then is still there.</param>
    public async Task<Recovered> RunAsync(IReadOnlyList<Found> found, Func<MicroVmRecord, CancellationToken, CancellationToken, Task<MicroVm>> adopt, Func<Found, Task> undo, CancellationToken cancellationToken)
    {
        var start = time.GetTimestamp();
        var adopted = new List<MicroVm>();
        var lost = new List<(string, string)>();
        await System.Threading.Tasks.Parallel.ForEachAsync(found, new ParallelOptions { MaxDegreeOfParallelism = Parallel, CancellationToken = cancellationToken }, async (one, token) =>
        {
            var problem = one.Problem;
            try
            {
                if (problem is null)
                {
                    using var limit = new CancellationTokenSource(AdoptLimit, time);
                    var microVm = await adopt(one.Record!, limit.Token, token);
                    lock (adopted)
                    {
                        adopted.Add(microVm);
                    }

                    return;
                }

                await undo(one);
            }
            catch (Exception e) when (!token.IsCancellationRequested)
            {
                // One that cannot be undone either is no reason to give up the others.
                problem = problem is null ? e.Message : $"{problem}, and it could not be undone: {e.Message}";
            }

            token.ThrowIfCancellationRequested();
            lock (adopted)
            {
                lost.Add((one.Id, problem));
            }

            if (one.Record is null or { Claim: not null })
            {
                LogLost(one.Id, problem);
            }
        });

        var claimed = adopted.Count(m => m.Claim is not null);
        metrics.Recovered(claimed, adopted.Count - claimed, lost.Count, time.GetElapsedTime(start));
        if (found.Count > 0)
        {
            LogRecovered(claimed, adopted.Count - claimed, lost.Count, time.GetElapsedTime(start).TotalSeconds);
        }

        return new Recovered(adopted, lost);
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Of an earlier server: {Sandboxes} sandboxes and {Warm} warm microVMs live on, {Lost} microVMs were removed, in {Seconds:0.00} s")]
    private partial void LogRecovered(int sandboxes, int warm, int lost, double seconds);

    [LoggerMessage(Level = LogLevel.Warning, Message = "microVM {SandboxId} of an earlier server is gone: {Reason}")]
    private partial void LogLost(string sandboxId, string reason);
}
