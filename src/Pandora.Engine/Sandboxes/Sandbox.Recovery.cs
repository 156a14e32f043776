using System.Collections.Concurrent;
using Pandora.Engine.Guests;

namespace Pandora.Engine.Sandboxes;

// The processes of a sandbox that outlived its server, and those that keep a sandbox alive.
public sealed partial class Sandbox
{
    /// <summary>Time after an adoption in which a client may attach to a command that it waited for.</summary>
    internal static readonly TimeSpan ReattachLimit = TimeSpan.FromSeconds(60);

    private const int MaxKilledAtOnce = 64;

    // Processes that clients have attached to since the adoption; null when it does not matter any more.
    private volatile ConcurrentDictionary<string, bool>? _reattached;

    // Incomplete until the processes of an earlier server were listed: a command that starts before would be taken for one of them.
    private readonly TaskCompletionSource _listed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Task _whenListed = Task.CompletedTask;

    /// <summary>
    /// Begins to record which processes clients attach to, and makes new commands wait, for <see cref="TakeUpProcessesAsync"/>.
    /// </summary>
    internal void ExpectReattachment() => (_reattached, _whenListed) = (new ConcurrentDictionary<string, bool>(), _listed.Task);

    /// <summary>
    /// Takes up the processes of an earlier server: (1) those that keep the sandbox alive do so again, (2) the commands that clients waited
    /// for are killed after <see cref="ReattachLimit"/>, except those that a client has attached to.
    /// </summary>
    /// <returns>The commands that were killed. It ends early, without an exception, when the sandbox ends.</returns>
    internal async Task<int> TakeUpProcessesAsync()
    {
        var reattached = _reattached ?? [];
        try
        {
            var running = (await MicroVm.Guest.ListAsync(Ending)).Where(p => p.End is null).ToList();
            _listed.TrySetResult();
            // A command's client can come back for a while: until then the sandbox is not idle.
            running.Where(p => p.Facts.KeepsAlive || p.Facts.IsForeground).ToList()
                .ForEach(p => HoldWhileRuns(p.Id, p.Facts.KeepsAlive ? Timeout.InfiniteTimeSpan : ReattachLimit));
            var commands = running.Where(p => p.Facts.IsForeground).ToList();
            if (commands.Count == 0)
            {
                return 0;
            }

            await Task.Delay(ReattachLimit, _time, Ending);
            var left = commands.Where(c => !reattached.ContainsKey(c.Id)).ToList();
            // The guest says how many there are.
            var options = new ParallelOptions { MaxDegreeOfParallelism = MaxKilledAtOnce, CancellationToken = Ending };
            await Parallel.ForEachAsync(left, options, async (command, stop) => await KillAsync(command.Id, stop));
            return left.Count;
        }
        catch (Exception e) when (e is OperationCanceledException || End is not null)
        {
            return 0;
        }
        finally
        {
            _listed.TrySetResult();
            _reattached = null;
        }
    }

    private async ValueTask KillAsync(string id, CancellationToken cancellationToken)
    {
        try
        {
            await using var process = await MicroVm.Guest.AttachAsync(id, ReadFrom.Nothing, cancellationToken);
            await process.KillAsync();
        }
        catch (PandoraException)
        {
            // It has ended meanwhile, or the agent has: then it is not known what became of it, and nothing more can be done.
        }
    }

    // The sandbox is busy while the process runs, for a time at most.
    private void HoldWhileRuns(string id, TimeSpan limit)
    {
        var lease = Use();
        lease.HasWorked = true;
        _ = HoldAsync();

        async Task HoldAsync()
        {
            using var over = new CancellationTokenSource(limit, _time);
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(over.Token, Ending);
            try
            {
                await using var process = await MicroVm.Guest.AttachAsync(id, ReadFrom.Nothing, stop.Token);
                await process.ReadToEndAsync(stop.Token);
            }
            catch (Exception e) when (e is PandoraException or OperationCanceledException)
            {
                // The time is over, the process has ended, the guest is lost, or the sandbox ends: none of them is an activity.
            }
            finally
            {
                lease.Dispose();
            }
        }
    }
}
