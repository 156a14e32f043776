using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Pandora.Vmm;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// Measures the room on the host's disk every second, continues sandboxes that wait for room, and ends those that have waited too long.
/// </summary>
internal sealed partial class DiskWatch : IAsyncDisposable
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1), AnswerLimit = TimeSpan.FromSeconds(5);
    private readonly ConcurrentDictionary<string, long> _stalledSince = new();
    private readonly EngineOptions _options;
    private readonly DiskRoom _room;
    private readonly SandboxRegistry _sandboxes;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly PeriodicWork _work;

    /// <summary>Starts the watch.</summary>
    public DiskWatch(EngineOptions options, DiskRoom room, SandboxRegistry sandboxes, TimeProvider time, ILogger<DiskWatch> logger)
    {
        (_options, _room, _sandboxes, _time, _logger) = (options, room, sandboxes, time, logger);
        _work = new PeriodicWork("The watch over the host's disk", Interval, _ => CheckAsync(), time, logger);
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _work.DisposeAsync();

    private async Task CheckAsync()
    {
        _room.Measure();
        var stalled = _sandboxes.All.Where(s => s.IsStalled).ToList();
        foreach (var id in _stalledSince.Keys.Except(stalled.Select(s => s.Id)).ToList())
        {
            _stalledSince.TryRemove(id, out _);
        }

        await Task.WhenAll(stalled.Select(HandleStalledAsync));
    }

    private async Task HandleStalledAsync(Sandbox sandbox)
    {
        if (_stalledSince.TryAdd(sandbox.Id, _time.GetTimestamp()))
        {
            LogStalled(sandbox.Id);
        }

        if (_time.GetElapsedTime(_stalledSince[sandbox.Id]).TotalSeconds >= _options.DiskWait)
        {
            await _sandboxes.EndDeadAsync(sandbox, $"the host's disk had no room for its data for {_options.DiskWait:0.#} s");
            return;
        }

        if (_room.HasReserve)
        {
            try
            {
                using var limit = new CancellationTokenSource(AnswerLimit, _time);
                await sandbox.MicroVm.Machine.ContinueAsync(limit.Token);
                LogContinued(sandbox.Id);
            }
            catch (Exception e) when (e is VmmException or OperationCanceledException)
            {
                LogNotContinued(sandbox.Id, e.Message);
            }
        }
    }

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "Sandbox {SandboxId} waits: the host's disk has no room for the data that it writes. No data is lost; the sandbox "
            + "continues when there is room")]
    private partial void LogStalled(string sandboxId);

    [LoggerMessage(Level = LogLevel.Information, Message = "Sandbox {SandboxId} continues: there is room on the host's disk")]
    private partial void LogContinued(string sandboxId);

    [LoggerMessage(Level = LogLevel.Error, Message = "Sandbox {SandboxId} could not be continued: {Error}. The server tries again")]
    private partial void LogNotContinued(string sandboxId, string error);
}
