using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Guests;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Sandboxes;

// How sandboxes end: at their client's wish, idle, too old, dead, or with the server.
public sealed partial class SandboxRegistry
{
    private static readonly TimeSpan KillLimit = CommandKiller.LongestWait + TimeSpan.FromSeconds(0.5);
    private readonly ConcurrentDictionary<Task, bool> _ending = new();

    /// <summary>Ends a sandbox at its client's wish.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="complete">Wait for everything, slot included, to be undone, and report it.</param>
    /// <exception cref="PandoraException">There is none with that id, or it has ended.</exception>
    public async Task<EndedSandbox> DeleteAsync(string id, bool complete)
    {
        try
        {
            var sandbox = Get(id);
            var ended = await EndAsync(sandbox, new SandboxEnd(EndReason.Deleted, "it was deleted", _time.GetUtcNow()))
                ?? throw Sandbox.Ended(id, sandbox.End!);
            return complete ? ended with { Undone = EndedResource.Of(await sandbox.MicroVm.Teardown.CompleteAsync()) } : ended;
        }
        catch (Exception e)
        {
            _journal.Failed(null, SandboxOperation.Delete, id, e);
            throw;
        }
    }

    /// <summary>Ends what has been idle for too long, and what is too old.</summary>
    public async Task ReapAsync()
    {
        var old = _sandboxes.Values.Where(s => _options.MaxLifetime > 0 && s.Age.TotalSeconds >= _options.MaxLifetime);
        await Task.WhenAll(old.Select(sandbox => EndAsync(sandbox, EndOfOld())));
        var idle = _sandboxes.Values.Where(s => s.Idle >= s.IdleTimeout);
        await Task.WhenAll(idle.Select(sandbox => EndAsync(sandbox, EndOfIdle(sandbox), onlyIfIdle: true)));
    }

    private SandboxEnd EndOfOld()
    {
        var words = $"it was as old as a sandbox may get, {_options.MaxLifetime:0.#} s";
        return new SandboxEnd(EndReason.Lifetime, words, _time.GetUtcNow())
        {
            Hint = "PANDORA_MAX_LIFETIME is how old one may get",
        };
    }

    private SandboxEnd EndOfIdle(Sandbox sandbox)
    {
        var words = sandbox.HasFailed ? "nothing that was tried in it worked for" : "nobody used it for";
        return new SandboxEnd(EndReason.Idle, $"{words} {sandbox.IdleTimeout.TotalSeconds:0.#} s", _time.GetUtcNow());
    }

    /// <summary>Ends all sandboxes and lets no more be made. Returns when everything is undone.</summary>
    public async Task CloseAsync()
    {
        _node.Close();
        await Task.WhenAll(
            _sandboxes.Values.Select(s => EndAsync(s, new SandboxEnd(EndReason.Shutdown, "the server shut down", _time.GetUtcNow()))));
        await WhenEndedAsync();
    }

    /// <summary>Lets no more be made, waits for the commands that run, interrupts those that take too long, and leaves all sandboxes as
    /// they are for the next server.</summary>
    /// <param name="drain">How long to wait for commands.</param>
    public async Task DetachAsync(TimeSpan drain)
    {
        _node.Close();
        var unused = Task.WhenAll(_sandboxes.Values.Select(s => s.WhenUnusedAsync()));
        await unused.WaitAsync(drain, _time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _node.InterruptAsync();
        // Each is killed in its guest, and its client told.
        await unused.WaitAsync(KillLimit, _time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await WhenEndedAsync();
    }

    // An end that failed was told to its caller, and is no reason not to wait for the others.
    private async Task WhenEndedAsync() =>
        await Task.WhenAll(_ending.Keys).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);

    private async Task WatchAsync(Sandbox sandbox)
    {
        await EndDeadAsync(sandbox, await sandbox.MicroVm.Machine.Exited);
    }

    /// <summary>Ends a sandbox whose guest is dead, or waits for too long, although its VMM lives.</summary>
    internal async Task EndDeadAsync(Sandbox sandbox, string reason)
    {
        if (await EndAsync(sandbox, new SandboxEnd(EndReason.Died, reason, _time.GetUtcNow())) is not null)
        {
            LogDied(sandbox.Id, reason);
        }
    }

    /// <summary>The one way to end a sandbox. Null when another caller is at it.</summary>
    private async Task<EndedSandbox?> EndAsync(Sandbox sandbox, SandboxEnd end, bool onlyIfIdle = false)
    {
        if (!sandbox.TryEnd(end, onlyIfIdle))
        {
            return null;
        }

        using var span = EngineTracing.Source.StartActivity("sandbox.end");
        var start = Stopwatch.GetTimestamp();
        Task whole = sandbox.MicroVm.Teardown.CompleteAsync();
        _ending[whole] = true;
        _ = whole.ContinueWith(t => _ending.TryRemove(t, out _), TaskScheduler.Default);
        IReadOnlyList<Undone> undone;
        try
        {
            undone = await sandbox.MicroVm.Teardown.EndAsync();
        }
        finally
        {
            // It has ended however that went: nobody else would take it out of the count.
            _ended.Add(sandbox.Id, end);
            _sandboxes.TryRemove(sandbox.Id, out _);
            _count.Remove();
        }

        var ended = new EndedSandbox(sandbox, end, Stopwatch.GetElapsedTime(start), EndedResource.Of(undone));
        _journal.Ended(span, ended);
        return ended;
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Sandbox {SandboxId} died: {Reason}")]
    private partial void LogDied(string sandboxId, string reason);
}

/// <summary>A sandbox that has ended.</summary>
/// <param name="Sandbox">The sandbox.</param>
/// <param name="End">How.</param>
/// <param name="Elapsed">Time until its guest was dead and its files gone.</param>
/// <param name="Undone">What was undone.</param>
public sealed record EndedSandbox(Sandbox Sandbox, SandboxEnd End, TimeSpan Elapsed, IReadOnlyList<EndedResource> Undone);

/// <summary>One thing on the host that a sandbox had.</summary>
/// <param name="Resource">What.</param>
/// <param name="Elapsed">How long undoing it took.</param>
/// <param name="IsGone">Whether the host no longer had it then: looked up, not assumed.</param>
/// <param name="Error">What went wrong, or null.</param>
public sealed record EndedResource(HostResource Resource, TimeSpan Elapsed, bool IsGone, string? Error)
{
    internal static IReadOnlyList<EndedResource> Of(IEnumerable<Undone> undone) =>
        [.. undone.Select(u => new EndedResource(u.Resource, u.Elapsed, u.IsGone, u.Error))];
}
