using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Sandboxes;

// How sandboxes end: at their client's wish, idle, too old, dead, or with the server.
public sealed partial class SandboxRegistry
{
    /// <summary>Ends a sandbox at its client's wish.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="complete">Wait for everything, slot included, to be undone, and report it.</param>
    /// <exception cref="PandoraException">There is none with that id, or it has ended.</exception>
    public async Task<EndedSandbox> DeleteAsync(string id, bool complete)
    {
        try
        {
            var sandbox = Get(id);
            var ended = await EndAsync(sandbox, new SandboxEnd(EndReason.Deleted, "it was deleted", time.GetUtcNow()))
                ?? throw Sandbox.Ended(id, sandbox.End!);
            return complete ? ended with { Undone = await sandbox.MicroVm.Teardown.CompleteAsync() } : ended;
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
        await Task.WhenAll(_sandboxes.Values.Where(s => options.MaxLifetime > 0 && s.Age.TotalSeconds >= options.MaxLifetime)
            .Select(s => EndAsync(s, new SandboxEnd(EndReason.Lifetime, $"it was as old as a sandbox may get, {options.MaxLifetime:0.#} s", time.GetUtcNow()) { Hint = "PANDORA_MAX_LIFETIME is how old one may get" })));

        var reaping = _sandboxes.Values.Where(s => s.Idle >= s.IdleTimeout).Select(async sandbox =>
        {
            var words = sandbox.HasFailed ? "nothing that was tried in it worked for" : "nobody used it for";
            var end = new SandboxEnd(EndReason.Idle, $"{words} {sandbox.IdleTimeout.TotalSeconds:0.#} s", time.GetUtcNow());
            await EndAsync(sandbox, end, onlyIfIdle: true);
        });
        await Task.WhenAll(reaping);
    }

    /// <summary>Ends all sandboxes and lets no more be made. Returns when everything is undone.</summary>
    public async Task CloseAsync()
    {
        _state = State.Closed;
        await Task.WhenAll(
            _sandboxes.Values.Select(s => EndAsync(s, new SandboxEnd(EndReason.Shutdown, "the server shut down", time.GetUtcNow()))));
        await Task.WhenAll(_ending.Keys);
    }

    /// <summary>Lets no more be made, waits for the commands that run, interrupts those that take too long, and leaves all sandboxes as
    /// they are for the next server.</summary>
    /// <param name="drain">How long to wait for commands.</param>
    public async Task SuspendAsync(TimeSpan drain)
    {
        _state = State.Closed;
        var unused = Task.WhenAll(_sandboxes.Values.Select(s => s.WhenUnusedAsync()));
        await unused.WaitAsync(drain, time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _suspending.CancelAsync();
        // Each is killed in its guest, and its client told.
        await unused.WaitAsync(KillLimit, time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await Task.WhenAll(_ending.Keys);
    }

    private async Task WatchAsync(Sandbox sandbox)
    {
        await EndDeadAsync(sandbox, await sandbox.MicroVm.Machine.Exited);
    }

    /// <summary>Ends a sandbox whose guest is dead, or waits for too long, although its VMM lives.</summary>
    internal async Task EndDeadAsync(Sandbox sandbox, string reason)
    {
        if (await EndAsync(sandbox, new SandboxEnd(EndReason.Died, reason, time.GetUtcNow())) is not null)
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
        var undone = await sandbox.MicroVm.Teardown.EndAsync();
        Remember(sandbox.Id, end);
        _sandboxes.TryRemove(sandbox.Id, out _);
        Interlocked.Decrement(ref _count);
        var ended = new EndedSandbox(sandbox, end, Stopwatch.GetElapsedTime(start), undone);
        _journal.Ended(span, ended);
        return ended;
    }

    private void Remember(string id, SandboxEnd end)
    {
        _ended[id] = end;
        _endedOrder.Enqueue(id);
        while (_endedOrder.Count > RememberedEnds && _endedOrder.TryDequeue(out var oldest))
        {
            _ended.TryRemove(oldest, out _);
            _keys.Forget(oldest);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Sandbox {SandboxId} died: {Reason}")]
    private partial void LogDied(string sandboxId, string reason);
}

/// <summary>A sandbox that has ended.</summary>
/// <param name="Sandbox">The sandbox.</param>
/// <param name="End">How.</param>
/// <param name="Elapsed">Time until its guest was dead and its files gone.</param>
/// <param name="Undone">What was undone.</param>
public sealed record EndedSandbox(Sandbox Sandbox, SandboxEnd End, TimeSpan Elapsed, IReadOnlyList<Undone> Undone);
