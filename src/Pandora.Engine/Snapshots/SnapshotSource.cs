using Microsoft.Extensions.Logging;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Templates;

namespace Pandora.Engine.Snapshots;

/// <summary>
/// Has the snapshot that a template's next microVM starts from. Where there is none it has one made, in one of the permits that boots take,
/// and the template's microVMs boot until it is there. One that fails to restore twice running is dropped, and booting takes over.
/// </summary>
internal sealed partial class SnapshotSource(
    SnapshotStore store,
    Func<Template, string> keyOf,
    Func<Template, string, CancellationToken, Task> makeAsync,
    SemaphoreSlim permits,
    EngineMetrics metrics,
    TimeProvider time,
    ILogger logger
) : IAsyncDisposable
{
    /// <summary>How often one may fail to restore.</summary>
    public const int MostFailures = 2;

    /// <summary>How long booting takes over for, and the longest pause between attempts to make one.</summary>
    public static readonly TimeSpan LongestPause = TimeSpan.FromMinutes(10);

    private static readonly TimeSpan FirstPause = TimeSpan.FromSeconds(10), LongestReading = TimeSpan.FromSeconds(2);
    private readonly Lock _lock = new();
    private readonly Dictionary<string, State> _states = [];
    private readonly CancellationTokenSource _stopping = new();

    /// <summary>How many there are.</summary>
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

    /// <summary>Finds or makes a template's snapshot behind the caller's back.</summary>
    public void Prepare(Template template)
    {
        lock (_lock)
        {
            Begin(template);
        }
    }

    /// <summary>
    /// The snapshot to start from, or null to boot. It waits a moment while one that is there is read for the first time, and not while one
    /// is made.
    /// </summary>
    public async Task<Snapshot?> FindAsync(Template template, CancellationToken cancellationToken)
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

            return state.Snapshot;
        }
    }

    /// <summary>A microVM runs that was restored from it, if from any.</summary>
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

    /// <summary>A microVM could not be restored from it.</summary>
    public void Failed(Snapshot snapshot, Exception exception)
    {
        lock (_lock)
        {
            metrics.RestoreFailed(snapshot.Template);
            LogRestoreFailed(snapshot.Template, exception.Message);
            if (StateOf(snapshot) is { } state && ++state.Failures >= MostFailures)
            {
                Discard(state, SnapshotOutcome.Dropped, $"it failed to restore {MostFailures} times running");
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
        _states.GetValueOrDefault(snapshot.Template) is { } state && state.Key == snapshot.Key ? state : null;

    // Under the lock. The key is looked at each time: template, VMM or processor may be another than a moment ago.
    private State Begin(Template template)
    {
        var key = keyOf(template);
        if (!_states.TryGetValue(template.Name, out var state) || state.Key != key)
        {
            // What the old state is busy with ends by itself, or at the stop.
            _states[template.Name] = state = new State(
                template.Name, key, state is null ? null : Task.WhenAll(new[] { state.Before, state.Working }.OfType<Task>()));
        }

        if (state is { Snapshot: null, Working: null } && time.GetUtcNow() >= state.NotBefore && !_stopping.IsCancellationRequested)
        {
            var read = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            state.Reading = read.Task;
            // The place is asked for before this returns, so that boots which begin right after stand behind.
            state.Working = WorkAsync(state, template, read, permits.WaitAsync(_stopping.Token));
        }

        return state;
    }

    private async Task WorkAsync(State state, Template template, TaskCompletionSource read, Task place)
    {
        await Task.Yield();
        var hasPlace = false;
        try
        {
            var found = await Task.Run(
                () => store.Find(template.Name, state.Key, _stopping.Token, out var problem) ?? Report(state, problem), _stopping.Token);
            Set(state, found);
            read.TrySetResult();
            await place;
            hasPlace = true;
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
            LogNotMade(template.Name, e.Message, pause.TotalSeconds);
            lock (_lock)
            {
                (state.Working, state.NotBefore) = (null, time.GetUtcNow() + pause);
            }
        }
        finally
        {
            read.TrySetResult();
            if (hasPlace || await IsHeldAsync(place))
            {
                permits.Release();
            }
        }
    }

    private async Task MakeAsync(State state, Template template)
    {
        var start = time.GetTimestamp();
        var directory = store.Begin(template.Name);
        try
        {
            await makeAsync(template, directory, _stopping.Token);
            Set(state, await Task.Run(() => store.Install(directory, template.Name, state.Key, time.GetUtcNow(), _stopping.Token)));
            metrics.SnapshotEnded(SnapshotOutcome.Made);
            LogMade(template.Name, time.GetElapsedTime(start).TotalSeconds);
        }
        finally
        {
            if (Directory.Exists(directory))
            {
                Directory.Delete(directory, recursive: true);
            }
        }
    }

    private static async Task<bool> IsHeldAsync(Task place)
    {
        await place.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return place.IsCompletedSuccessfully;
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
            store.Delete(state.Template, state.Key);
            LogDropped(state.Template, reason);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            LogKept(state.Template, reason, e.Message);
        }
    }

    [LoggerMessage(
        Level = LogLevel.Information,
        Message = "A snapshot of template {Template} is made after {Seconds:0.00} s: its microVMs are restored from now on")]
    private partial void LogMade(string template, double seconds);

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "No snapshot of template {Template} could be made, and its microVMs boot: {Error}. It is tried again in {Seconds:0} s")]
    private partial void LogNotMade(string template, string error, double seconds);

    [LoggerMessage(
        Level = LogLevel.Warning, Message = "A microVM of template {Template} could not be restored and is booted instead: {Error}")]
    private partial void LogRestoreFailed(string template, string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "The snapshot of template {Template} is dropped: {Reason}")]
    private partial void LogDropped(string template, string reason);

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "The snapshot of template {Template} is not used any more, and its files could not be deleted: {Reason}. {Error}")]
    private partial void LogKept(string template, string reason, string error);

    private sealed class State(string template, string key, Task? before)
    {
        public string Template => template;
        public string Key => key;
        public Task? Before => before;
        public Snapshot? Snapshot { get; set; }
        public Task? Working { get; set; }
        public Task Reading { get; set; } = Task.CompletedTask;
        public int Failures { get; set; }
        public int Attempts { get; set; }
        public DateTimeOffset NotBefore { get; set; }
    }
}
