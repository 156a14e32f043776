using Microsoft.Extensions.Logging;
using Pandora.Engine.Admission;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Templates;

namespace Pandora.Engine.Snapshots;

/// <summary>
/// Provides the snapshot for a template's next microVM. When there is none, it makes one in the background, holding one permit of the boot
/// limit, and the template's microVMs boot until the snapshot exists. A snapshot that fails to restore twice in a row is dropped, and
/// microVMs boot again. A template in another size than its own has a snapshot of its own.
/// </summary>
/// <param name="store">The snapshots on the disk.</param>
/// <param name="keyOf">The key that a template's snapshot must have.</param>
/// <param name="makeAsync">Makes a template's snapshot in a directory.</param>
/// <param name="hasRoomFor">Whether the disk has room for a number of bytes and the reserve.</param>
/// <param name="permits">Permits to start microVMs.</param>
/// <param name="metrics">Counts what happens to snapshots.</param>
/// <param name="time">The clock of pauses.</param>
/// <param name="logger">Log of what happens to snapshots.</param>
internal sealed partial class SnapshotSource(
    SnapshotStore store,
    Func<Template, string> keyOf,
    Func<Template, string, CancellationToken, Task> makeAsync,
    Func<long, bool> hasRoomFor,
    StartPermits permits,
    EngineMetrics metrics,
    TimeProvider time,
    ILogger logger
) : IAsyncDisposable
{
    /// <summary>Number of failed restores in a row after which a snapshot is dropped.</summary>
    public const int MostFailures = 2;

    /// <summary>How long microVMs boot after a snapshot was dropped; also the longest pause between attempts to make a snapshot.</summary>
    public static readonly TimeSpan LongestPause = TimeSpan.FromMinutes(10);

    private static readonly TimeSpan FirstPause = TimeSpan.FromSeconds(10), LongestReading = TimeSpan.FromSeconds(2);
    private readonly Lock _lock = new();
    private readonly Dictionary<string, State> _states = [];
    private readonly CancellationTokenSource _stopping = new();

    /// <summary>The number of snapshots in use.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _states.Values.Count(s => s.Snapshot is not null);
            }
        }
    }

    /// <summary>Starts to find or make a template's snapshot in the background.</summary>
    public void Prepare(Template template)
    {
        lock (_lock)
        {
            Begin(template);
        }
    }

    /// <summary>
    /// Finds the snapshot to restore from; null to boot. Waits at most two seconds while an existing snapshot is read for the first time,
    /// and does not wait while a snapshot is made. The snapshot is not deleted to make room for another one before its use is disposed.
    /// </summary>
    public async Task<SnapshotUse?> FindAsync(Template template, CancellationToken cancellationToken)
    {
        Task reading;
        lock (_lock)
        {
            reading = Begin(template).Reading;
        }

        await Task.WhenAny(reading, Task.Delay(LongestReading, time, cancellationToken));
        cancellationToken.ThrowIfCancellationRequested();
        lock (_lock)
        {
            var state = Begin(template);
            if (state.Snapshot is { } snapshot && !store.IsUntouched(snapshot))
            {
                Discard(state, SnapshotOutcome.Changed, "its files were changed");
                state.Working = null;
                Begin(template);
            }

            return state.Snapshot is { } found ? Use(state, found) : null;
        }
    }

    /// <summary>Reports that a microVM was restored from a snapshot. Null is ignored.</summary>
    public void Succeeded(Snapshot? snapshot)
    {
        lock (_lock)
        {
            if (snapshot is not null && StateOf(snapshot) is { } state)
            {
                state.Failures = 0;
            }
        }
    }

    /// <summary>Reports that a microVM could not be restored from a snapshot.</summary>
    public void Failed(Snapshot snapshot, Exception exception)
    {
        lock (_lock)
        {
            metrics.RestoreFailed(Template.NameOf(snapshot.Variant));
            LogRestoreFailed(snapshot.Variant, exception.Message);
            if (StateOf(snapshot) is { } state && ++state.Failures >= MostFailures)
            {
                Discard(state, SnapshotOutcome.Dropped, $"it failed to restore {MostFailures} times in a row");
                state.NotBefore = time.GetUtcNow() + LongestPause;
                state.Working = null;
            }
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_stopping.IsCancellationRequested)
        {
            return;
        }

        await _stopping.CancelAsync();
        Task[] working;
        lock (_lock)
        {
            working = [.. _states.Values.SelectMany(s => new[] { s.Before, s.Working }).OfType<Task>()];
        }

        await Task.WhenAll(working);
        _stopping.Dispose();
    }

    private State? StateOf(Snapshot snapshot) =>
        _states.GetValueOrDefault(snapshot.Variant) is { } state && state.Key == snapshot.Key ? state : null;

    // Under the lock. The key is made anew each time, because template, VMM or processor may have changed.
    private State Begin(Template template)
    {
        var key = keyOf(template);
        if (!_states.TryGetValue(template.Variant, out var state) || state.Key != key)
        {
            ForgetIdleSizes();
            // The work of the old state ends by itself, or when the server stops.
            _states[template.Variant] = state = new State(
                template.Variant, key, state is null ? null : Task.WhenAll(new[] { state.Before, state.Working }.OfType<Task>()));
        }

        state.LastUse = ++_uses;

        if (state is { Snapshot: null, Working: null } && time.GetUtcNow() >= state.NotBefore && !_stopping.IsCancellationRequested)
        {
            var read = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            state.Reading = read.Task;
            // The permit is requested before this method returns, so that later boots queue behind it.
            state.Working = WorkAsync(state, template, read, permits.WaitAsync(StartPermits.NoProject, _stopping.Token));
        }

        return state;
    }

    private async Task WorkAsync(State state, Template template, TaskCompletionSource read, Task permit)
    {
        await Task.Yield();
        var hasPermit = false;
        try
        {
            var found = await Task.Run(
                () => store.Find(state.Variant, state.Key, _stopping.Token, out var problem) ?? Report(state, problem), _stopping.Token);
            Set(state, found);
            read.TrySetResult();
            await permit;
            hasPermit = true;
            if (found is null)
            {
                await (state.Before ?? Task.CompletedTask);
                await MakeAsync(state, template);
            }
        }
        catch (OperationCanceledException) when (_stopping.IsCancellationRequested)
        {
            // Closing.
        }
        catch (Exception e)
        {
            metrics.SnapshotEnded(SnapshotOutcome.Failed);
            var pause = TimeSpan.FromSeconds(
                Math.Min(LongestPause.TotalSeconds, FirstPause.TotalSeconds * Math.Pow(4, Math.Min(state.Attempts++, 10))));
            LogNotMade(state.Variant, e.Message, pause.TotalSeconds);
            lock (_lock)
            {
                (state.Working, state.NotBefore) = (null, time.GetUtcNow() + pause);
            }
        }
        finally
        {
            read.TrySetResult();
            if (hasPermit || await IsHeldAsync(permit))
            {
                permits.Release();
            }
        }
    }

    private async Task MakeAsync(State state, Template template)
    {
        var start = time.GetTimestamp();
        string? directory = null;
        try
        {
            if (template.IsVariant)
            {
                MakeRoom(template);
            }

            directory = store.Begin(state.Variant);
            await makeAsync(template, directory, _stopping.Token);
            var made = await Task.Run(() => store.Install(directory, state.Variant, state.Key, time.GetUtcNow(), _stopping.Token));
            SnapshotStore.Touch(made, time.GetUtcNow());
            Set(state, made);
            metrics.SnapshotEnded(SnapshotOutcome.Made);
            LogMade(state.Variant, time.GetElapsedTime(start).TotalSeconds);
        }
        finally
        {
            lock (_lock)
            {
                _making.Remove(state.Variant);
            }

            if (Directory.Exists(directory))
            {
                Directory.Delete(directory, recursive: true);
            }
        }
    }

    private static async Task<bool> IsHeldAsync(Task permit)
    {
        await permit.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return permit.IsCompletedSuccessfully;
    }

    private void Set(State state, Snapshot? snapshot)
    {
        lock (_lock)
        {
            state.Snapshot = snapshot;
        }
    }

    private Snapshot? Report(State state, string? problem)
    {
        if (problem is not null)
        {
            lock (_lock)
            {
                Discard(state, SnapshotOutcome.Damaged, problem);
            }
        }

        return null;
    }

    private void Discard(State state, SnapshotOutcome outcome, string reason)
    {
        metrics.SnapshotEnded(outcome);
        state.Snapshot = null;
        state.Failures = 0;
        try
        {
            store.Delete(state.Variant, state.Key);
            LogDropped(state.Variant, reason);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            LogKept(state.Variant, reason, e.Message);
        }
    }

    [LoggerMessage(
        Level = LogLevel.Information,
        Message = "A snapshot of template {Template} was made in {Seconds:0.00} s: its microVMs are restored from now on")]
    private partial void LogMade(string template, double seconds);

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "No snapshot of template {Template} could be made, and its microVMs boot: {Error}. The next attempt is in {Seconds:0} s")]
    private partial void LogNotMade(string template, string error, double seconds);

    [LoggerMessage(
        Level = LogLevel.Warning, Message = "A microVM of template {Template} could not be restored and is booted instead: {Error}")]
    private partial void LogRestoreFailed(string template, string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "The snapshot of template {Template} is dropped: {Reason}")]
    private partial void LogDropped(string template, string reason);

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "The snapshot of template {Template} is dropped ({Reason}), but its files could not be deleted: {Error}")]
    private partial void LogKept(string template, string reason, string error);

    private sealed class State(string variant, string key, Task? before)
    {
        public string Variant => variant;
        public string Key => key;
        public Task? Before => before;
        public Snapshot? Snapshot { get; set; }
        public Task? Working { get; set; }
        public Task Reading { get; set; } = Task.CompletedTask;
        public int Failures { get; set; }
        public int Attempts { get; set; }
        public DateTimeOffset NotBefore { get; set; }
        public int Users { get; set; }
        public long LastUse { get; set; }
        public bool IsWorking => Working is { IsCompleted: false } || Before is { IsCompleted: false };
    }
}
