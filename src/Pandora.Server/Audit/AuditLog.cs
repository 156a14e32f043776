using System.Buffers;
using System.Text.Json;
using System.Threading.Channels;
using Pandora.Server.Hosting;

namespace Pandora.Server.Audit;

/// <summary>Writes a line that ends with a line break.</summary>
internal delegate void AppendLine(ReadOnlySpan<byte> line);

/// <summary>
/// Writes the audit's records as JSON lines, one at a time, in the background: no request waits for the disk. When the disk is too slow or
/// full, lines are lost. They are counted, logged at most once a minute, and a line of the file says how many, as soon as one can be
/// written.
/// </summary>
internal sealed partial class AuditLog : IAsyncDisposable
{
    /// <summary>Records that may wait for the disk.</summary>
    internal const int QueueLength = 4096;

    /// <summary>Time between two log lines about what was lost.</summary>
    internal static readonly TimeSpan ReportInterval = TimeSpan.FromMinutes(1);

    /// <summary>Time between two attempts to say in the file what was lost.</summary>
    internal static readonly TimeSpan RetryInterval = TimeSpan.FromSeconds(5);

    private readonly Lock _lock = new();
    private readonly Channel<AuditRecord> _queue = Channel.CreateBounded<AuditRecord>(
        new BoundedChannelOptions(QueueLength) { SingleReader = true });

    private readonly ArrayBufferWriter<byte> _buffer = new();
    private readonly AppendLine _append;
    private readonly ServerMetrics _metrics;
    private readonly TimeProvider _time;
    private readonly Lazy<ILogger> _logger;
    private readonly Task _writing;
    private long _unsaid;
    private long _unlogged;
    private long? _lastReport;

    /// <param name="append">Appends a line to the file.</param>
    /// <param name="metrics">Counts what is lost.</param>
    /// <param name="time">The clock of the lines and of the reports.</param>
    /// <param name="logger">Makes the log of the reports: at the first record, because the logs are made after this object.</param>
    public AuditLog(AppendLine append, ServerMetrics metrics, TimeProvider time, Func<ILogger> logger)
    {
        (_append, _metrics, _time, _logger) = (append, metrics, time, new Lazy<ILogger>(logger));
        _writing = Task.Run(WriteAsync);
    }

    /// <summary>Queues a record. It never waits.</summary>
    public void Write(AuditRecord record)
    {
        _ = _logger.Value;
        if (!_queue.Writer.TryWrite(record))
        {
            Lose("the disk is too slow, and the queue is full");
        }
    }

    /// <summary>Writes what is queued.</summary>
    public async ValueTask DisposeAsync()
    {
        _queue.Writer.TryComplete();
        await _writing;
    }

    private async Task WriteAsync()
    {
        do
        {
            while (_queue.Reader.TryRead(out var record))
            {
                if (!TrySayLost(out var reason) || !TryAppend(record, out reason))
                {
                    Lose(reason);
                }
            }
        }
        while (await WaitForRecordAsync());
        TrySayLost(out _);
    }

    // What was lost is said even when no other record comes.
    private async Task<bool> WaitForRecordAsync()
    {
        var coming = _queue.Reader.WaitToReadAsync().AsTask();
        while (Interlocked.Read(ref _unsaid) > 0 && !coming.IsCompleted)
        {
            await Task.WhenAny(coming, Task.Delay(RetryInterval, _time));
            TrySayLost(out _);
        }

        return await coming;
    }

    private bool TrySayLost(out string reason)
    {
        reason = "";
        var lost = Interlocked.Exchange(ref _unsaid, 0);
        var line = new AuditRecord { Time = _time.GetUtcNow(), Operation = AuditRecord.LostLines, Lost = lost };
        if (lost == 0 || TryAppend(line, out reason))
        {
            return true;
        }

        Interlocked.Add(ref _unsaid, lost);
        return false;
    }

    private bool TryAppend(AuditRecord record, out string reason)
    {
        reason = "";
        try
        {
            _buffer.ResetWrittenCount();
            using (var json = new Utf8JsonWriter(_buffer, AuditJson.Writer))
            {
                JsonSerializer.Serialize(json, record, AuditJson.Default.AuditRecord);
            }

            _buffer.Write("\n"u8);
            _append(_buffer.WrittenSpan);
            return true;
        }
        catch (Exception e)
        {
            // Whatever it is, the server goes on.
            reason = e.Message;
            return false;
        }
    }

    private void Lose(string reason)
    {
        Interlocked.Increment(ref _unsaid);
        _metrics.AuditLost();
        long unlogged;
        lock (_lock)
        {
            _unlogged++;
            if (_lastReport is { } last && _time.GetElapsedTime(last) < ReportInterval)
            {
                return;
            }

            _lastReport = _time.GetTimestamp();
            (unlogged, _unlogged) = (_unlogged, 0);
        }

        LogLost(_logger.Value, unlogged, reason);
    }

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "{Count} lines are missing in the audit's file: {Reason}. The server goes on, and reports this at most once a minute")]
    private static partial void LogLost(ILogger logger, long count, string reason);
}
