using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Guests.Agent;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Sandboxes;

// How sandboxes end: deleted, idle, too old, died, or shut down with the server.
public sealed partial class SandboxRegistry
{
    private static readonly TimeSpan KillLimit = AgentProcess.KillLimit + TimeSpan.FromSeconds(0.5);
    private readonly ConcurrentDictionary<Task, bool> _ending = new();

    /// <summary>Ends a sandbox because its client asked for it.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="complete">Wait until everything, including the slot, is cleaned up, and report it.</param>
    /// <param name="project">The project that it must belong to; null for any.</param>
    /// <exception cref="PandoraException">There is no sandbox with that id, or it has ended.</exception>
    internal async Task<EndedSandbox> DeleteAsync(string id, bool complete, string? project = null)
    {
        var line = new AuditLine(AuditOperation.Delete) { SandboxId = SandboxJournal.Bounded(id) };
        try
        {
            var sandbox = Get(id, project);
            var ended = await EndAsync(sandbox, new SandboxEnd(EndReason.Deleted, "it was deleted", _time.GetUtcNow()))
                ?? throw Sandbox.Ended(id, sandbox.End!);
            return complete ? ended with { Undone = EndedResource.Of(await sandbox.MicroVm.Teardown.CompleteAsync()) } : ended;
        }
        catch (Exception e)
        {
            _journal.Failed(null, line, e);
            throw;
        }
    }

    /// <summary>Ends the sandboxes that have been idle for too long, and those that are too old.</summary>
    public async Task ReapAsync()
    {
        var old = _sandboxes.Values.Where(s => s.Age >= s.LongestLife);
        await Task.WhenAll(old.Select(sandbox => EndAsync(sandbox, EndOfOld(sandbox))));
        var idle = _sandboxes.Values.Where(s => s.Idle >= s.IdleTimeout);
        await Task.WhenAll(idle.Select(sandbox => EndAsync(sandbox, EndOfIdle(sandbox), onlyIfIdle: true)));
    }

    private SandboxEnd EndOfOld(Sandbox sandbox)
    {
        var words = $"it reached the longest lifetime of a sandbox, {sandbox.LongestLife?.TotalSeconds:0.#} s";
        return new SandboxEnd(EndReason.Lifetime, words, _time.GetUtcNow())
        {
            Hint = "PANDORA_MAX_LIFETIME and './pandora project set --max-lifetime' set the longest lifetime",
        };
    }

    private SandboxEnd EndOfTime(Sandbox sandbox) => new(
        EndReason.Lifetime, $"its time was over, which its client had set to {sandbox.Claim.EndsAt:u}", _time.GetUtcNow());

    private SandboxEnd EndOfIdle(Sandbox sandbox)
    {
        var words = sandbox.HasFailed ? "nothing that was tried in it worked for" : "nobody used it for";
        return new SandboxEnd(EndReason.Idle, $"{words} {sandbox.IdleTimeout.TotalSeconds:0.#} s", _time.GetUtcNow());
    }

    /// <summary>Ends all sandboxes and refuses new ones. Returns when everything is cleaned up.</summary>
    public async Task CloseAsync()
    {
        _node.Close();
        await Task.WhenAll(
            _sandboxes.Values.Select(s => EndAsync(s, new SandboxEnd(EndReason.Shutdown, "the server shut down", _time.GetUtcNow()))));
        await WhenEndedAsync();
        foreach (var (id, record) in _undecided)
        {
            // The recovery was stopped before it, and the node ends its microVM.
            _journal.Lost(id, record, EndReason.Shutdown);
        }
    }

    /// <summary>
    /// Refuses new sandboxes, waits for the running commands, interrupts those that take too long, and detaches from all sandboxes, which
    /// run on for the next server.
    /// </summary>
    /// <param name="drain">How long to wait for commands.</param>
    public async Task DetachAsync(TimeSpan drain)
    {
        _node.Close();
        var unused = Task.WhenAll(_sandboxes.Values.Select(s => s.WhenUnusedAsync()));
        await unused.WaitAsync(drain, _time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _node.InterruptAsync();
        // Each interrupted command is killed in its guest, and its client is answered.
        await unused.WaitAsync(KillLimit, _time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await Task.WhenAll(_sandboxes.Values.Select(s => s.WhenUnchangedAsync()));
        _sandboxes.Values.ToList().ForEach(s => s.LeaveEnd());
        await WhenEndedAsync();
    }

    // A failed end was reported to its caller; the others are awaited all the same.
    private async Task WhenEndedAsync() =>
        await Task.WhenAll(_ending.Keys).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);

    private async Task WatchAsync(Sandbox sandbox)
    {
        await EndDeadAsync(sandbox, await sandbox.MicroVm.Machine.Exited);
    }

    /// <summary>Ends a sandbox whose guest is dead or has waited for room too long, although its VMM runs.</summary>
    internal async Task EndDeadAsync(Sandbox sandbox, string reason)
    {
        if (await EndAsync(sandbox, new SandboxEnd(EndReason.Died, reason, _time.GetUtcNow())) is not null)
        {
            LogDied(sandbox.Id, reason);
        }
    }

    /// <summary>Ends a sandbox; every end goes through this method. Null when another caller ends it.</summary>
    private async Task<EndedSandbox?> EndAsync(Sandbox sandbox, SandboxEnd end, bool onlyIfIdle = false)
    {
        if (!sandbox.TryEnd(end, onlyIfIdle))
        {
            return null;
        }

        using var span = EngineTracing.Source.StartActivity("sandbox.end");
        var start = Stopwatch.GetTimestamp();
        // A change of the egress that is under way must not reach the next holder of the slot.
        var settled = sandbox.WhenUnchangedAsync();
        Task whole = CompleteAsync(sandbox.MicroVm.Teardown, settled);
        _ending[whole] = true;
        _ = whole.ContinueWith(t => _ending.TryRemove(t, out _), TaskScheduler.Default);
        IReadOnlyList<Undone> undone;
        try
        {
            await settled;
            undone = await sandbox.MicroVm.Teardown.EndAsync();
        }
        finally
        {
            // The sandbox counts as ended even when the teardown failed: no other code removes it from the count.
            _ended.Add(sandbox.Id, sandbox.Project, end, sandbox.Claim);
            _sandboxes.TryRemove(sandbox.Id, out _);
            _admissions.Dismiss(sandbox.CountedSize);
            _admissions.Release(sandbox.Project, sandbox.CountedSize);
        }

        var ended = new EndedSandbox(sandbox, end, Stopwatch.GetElapsedTime(start), EndedResource.Of(undone));
        _journal.Ended(span, ended);
        return ended;
    }

    private static async Task CompleteAsync(Teardown teardown, Task settled)
    {
        await settled;
        await teardown.CompleteAsync();
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Sandbox {SandboxId} died: {Reason}")]
    private partial void LogDied(string sandboxId, string reason);
}

/// <summary>A sandbox that has ended.</summary>
/// <param name="Sandbox">The sandbox.</param>
/// <param name="End">How it ended.</param>
/// <param name="Elapsed">Time until the guest was dead and its files were deleted.</param>
/// <param name="Undone">The resources that were cleaned up.</param>
public sealed record EndedSandbox(Sandbox Sandbox, SandboxEnd End, TimeSpan Elapsed, IReadOnlyList<EndedResource> Undone);

/// <summary>One resource on the host that a sandbox owned.</summary>
/// <param name="Resource">The resource.</param>
/// <param name="Elapsed">Duration of the clean-up.</param>
/// <param name="IsGone">Whether a check afterwards found the resource gone from the host.</param>
/// <param name="Error">The error, or null.</param>
public sealed record EndedResource(HostResource Resource, TimeSpan Elapsed, bool IsGone, string? Error)
{
    internal static IReadOnlyList<EndedResource> Of(IEnumerable<Undone> undone) =>
        [.. undone.Select(u => new EndedResource(u.Resource, u.Elapsed, u.IsGone, u.Error))];
}
