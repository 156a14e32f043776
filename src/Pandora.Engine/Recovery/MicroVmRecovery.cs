using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Recovery;

/// <summary>A microVM of an earlier server, as its run directory tells of it.</summary>
/// <param name="Directory">Its run directory, whose name is its id.</param>
/// <param name="Record">Its record, if it can be read.</param>
/// <param name="Problem">Why it cannot be taken over, or null when that can be tried.</param>
internal sealed record FoundRecord(string Directory, MicroVmRecord? Record, string? Problem)
{
    /// <summary>The microVM's id.</summary>
    public string Id => Path.GetFileName(Directory);
}

/// <summary>
/// Takes over the microVMs that an earlier server of this data directory left, and tells which cannot be. The lock on the directory says
/// that nobody else does. Each is decided by itself and told at once; what cannot be taken over is undone when all are decided, so that
/// the dead do not hold up the living.
/// </summary>
internal sealed partial class MicroVmRecovery(EngineMetrics metrics, TimeProvider time, ILogger logger)
{
    /// <summary>Reads what there is.</summary>
    /// <param name="runDirectory">The instance's run directory.</param>
    public static IReadOnlyList<FoundRecord> Find(string runDirectory)
    {
        var slots = new HashSet<int>();
        return [.. Directory.GetDirectories(runDirectory).Order(StringComparer.Ordinal).Select(directory =>
        {
            if (!MicroVmRecord.TryRead(directory, out var record, out var problem))
            {
                return new FoundRecord(directory, null, problem);
            }

            return new FoundRecord(directory, record, FindProblem(record, slots));
        })];
    }

    private static string? FindProblem(MicroVmRecord record, HashSet<int> slots)
    {
        if (record.BootId != MicroVmRecord.HostBootId)
        {
            return "the host was restarted";
        }

        if (!record.IsReady || record.Vmm is null)
        {
            return "it had not come up when its server ended";
        }

        return slots.Add(record.Slot) ? null : $"another microVM has its slot {record.Slot}";
    }

    /// <summary>Undoes those that cannot be taken over at all, side by side.</summary>
    /// <param name="condemned">Those with a problem.</param>
    /// <param name="undo">Undoes one.</param>
    /// <param name="lost">Told of each, and why it is gone.</param>
    public Task UndoAsync(IEnumerable<FoundRecord> condemned, Func<FoundRecord, Task> undo, Action<string, string> lost) =>
        Task.WhenAll(condemned.Select(async one =>
        {
            var problem = one.Problem!;
            try
            {
                await undo(one);
            }
            catch (Exception e)
            {
                // One that cannot be undone either is no reason to give up the others.
                problem = $"{problem}, and it could not be undone: {e.Message}";
            }

            RecordLost(one, problem, lost);
        }));

    /// <summary>Takes over what can be, all side by side.</summary>
    /// <param name="found">Those without a problem.</param>
    /// <param name="adopt">Takes over one, or says why it cannot be; its token is the server's stop, at which it leaves it as it
    /// is.</param>
    /// <param name="adopted">Told of each that lives on, at once.</param>
    /// <param name="lost">Told of each that does not, and why, at once.</param>
    /// <param name="cancellationToken">Ends it; what was not reached by then is still there.</param>
    public async Task RunAsync(
        IReadOnlyList<FoundRecord> found, Func<MicroVmRecord, CancellationToken, Task<Adoption>> adopt, Action<MicroVm> adopted,
        Action<string, string> lost, CancellationToken cancellationToken)
    {
        var start = time.GetTimestamp();
        var (sandboxes, warm) = (0, 0);
        var dead = new List<Teardown>();
        await Task.WhenAll(found.Select(async one =>
        {
            var adoption = await adopt(one.Record!, cancellationToken);
            if (adoption.MicroVm is { } microVm)
            {
                try
                {
                    adopted(microVm);
                    _ = microVm.Claim is null ? Interlocked.Increment(ref warm) : Interlocked.Increment(ref sandboxes);
                    return;
                }
                catch (Exception e)
                {
                    // Its record could not be written, say. That costs this one, and not the server.
                    adoption = new Adoption(null, $"it could not be taken over: {e.Message}", microVm.Teardown);
                }
            }

            lock (dead)
            {
                dead.Add(adoption.Teardown);
            }

            RecordLost(one, adoption.Reason!, lost);
        }));
        metrics.Recovered(sandboxes, warm, dead.Count, time.GetElapsedTime(start));
        if (found.Count > 0)
        {
            LogRecovered(sandboxes, warm, dead.Count, time.GetElapsedTime(start).TotalSeconds);
        }

        await Task.WhenAll(dead.Select(t => t.CompleteAsync()));
    }

    private void RecordLost(FoundRecord one, string reason, Action<string, string> lost)
    {
        lost(one.Id, reason);
        if (one.Record is null or { Claim: not null })
        {
            LogLost(one.Id, reason);
        }
    }

    [LoggerMessage(
        Level = LogLevel.Information,
        Message = "Of an earlier server: {Sandboxes} sandboxes and {Warm} warm microVMs live on, {Lost} microVMs do not, after "
            + "{Seconds:0.00} s")]
    private partial void LogRecovered(int sandboxes, int warm, int lost, double seconds);

    [LoggerMessage(Level = LogLevel.Warning, Message = "microVM {SandboxId} of an earlier server is gone: {Reason}")]
    private partial void LogLost(string sandboxId, string reason);
}
