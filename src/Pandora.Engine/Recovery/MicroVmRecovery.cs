using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Recovery;

/// <summary>A microVM of an earlier server, as found in its run directory.</summary>
/// <param name="Directory">Its run directory, whose name is its id.</param>
/// <param name="Record">Its record, if it can be read.</param>
/// <param name="Problem">Why it cannot be adopted, or null when the server can try.</param>
internal sealed record FoundRecord(string Directory, MicroVmRecord? Record, string? Problem)
{
    /// <summary>The microVM's id.</summary>
    public string Id => Path.GetFileName(Directory);
}

/// <summary>
/// Adopts the microVMs of an earlier server of this data directory, and reports which are lost. The lock on the directory keeps other
/// servers out. Each microVM is decided separately and reported at once. The lost ones are cleaned up after all are decided, so that they
/// do not delay the others.
/// </summary>
internal sealed partial class MicroVmRecovery(EngineMetrics metrics, TimeProvider time, ILogger logger)
{
    /// <summary>Reads the records of all microVMs in a run directory.</summary>
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

    /// <summary>Cleans up, in parallel, the microVMs that cannot be adopted.</summary>
    /// <param name="unusable">The microVMs with a problem.</param>
    /// <param name="undo">Cleans up one microVM.</param>
    /// <param name="lost">Called for each microVM, with its id and the reason.</param>
    public Task UndoAsync(IEnumerable<FoundRecord> unusable, Func<FoundRecord, Task> undo, Action<string, string> lost) =>
        Task.WhenAll(unusable.Select(async one =>
        {
            var problem = one.Problem!;
            try
            {
                await undo(one);
            }
            catch (Exception e)
            {
                // A failed clean-up must not stop those of the other microVMs.
                problem = $"{problem}, and it could not be undone: {e.Message}";
            }

            RecordLost(one, problem, lost);
        }));

    /// <summary>Adopts, in parallel, the microVMs that can be adopted.</summary>
    /// <param name="found">The microVMs without a problem.</param>
    /// <param name="adopt">Adopts one microVM, or returns why it cannot be adopted. Its token is cancelled when the server stops; then the
    /// microVM is left running.</param>
    /// <param name="adopted">Called for each adopted microVM, at once.</param>
    /// <param name="lost">Called for each lost microVM, at once, with its id and the reason.</param>
    /// <param name="cancellationToken">Ends the recovery; the microVMs that are not decided by then still run.</param>
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
                    // For example, its record could not be written. Only this microVM is lost; the server continues.
                    adoption = new Adoption(null, $"it could not be adopted: {e.Message}", microVm.Teardown);
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
            LogRecovered(time.GetElapsedTime(start).TotalSeconds, sandboxes, warm, dead.Count);
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
        Message = "Recovered from an earlier server in {Seconds:0.00} s: {Sandboxes} sandboxes and {Warm} warm microVMs are adopted, "
            + "{Lost} microVMs are lost")]
    private partial void LogRecovered(double seconds, int sandboxes, int warm, int lost);

    [LoggerMessage(Level = LogLevel.Warning, Message = "microVM {SandboxId} of an earlier server is lost: {Reason}")]
    private partial void LogLost(string sandboxId, string reason);
}
