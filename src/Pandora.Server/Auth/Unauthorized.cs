using System.Net;
using Pandora.Server.Hosting;

namespace Pandora.Server.Auth;

/// <summary>
/// Counts and logs the requests that were answered with 401. It logs at most ten lines a minute, so that a client without a key cannot fill
/// the disk, and then one line with the number of the other requests. The key of a request is never logged.
/// </summary>
internal sealed partial class Unauthorized(ServerMetrics metrics, TimeProvider time, ILogger<Unauthorized> logger) : IDisposable
{
    internal const int LinesPerWindow = 10;
    internal static readonly TimeSpan Window = TimeSpan.FromMinutes(1);
    private readonly Lock _lock = new();
    private ITimer? _timer;
    private bool _isOpen;
    private int _lines;
    private int _unlogged;

    /// <summary>Counts and logs a request that was answered with 401.</summary>
    /// <param name="address">Address of the client, or of the proxy before the server.</param>
    /// <param name="isKeyShown">Whether the request had a key, which was wrong.</param>
    public void Report(IPAddress? address, bool isKeyShown)
    {
        metrics.Unauthorized();
        lock (_lock)
        {
            if (!_isOpen)
            {
                _isOpen = true;
                _timer ??= time.CreateTimer(_ => EndWindow(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
                _timer.Change(Window, Timeout.InfiniteTimeSpan);
            }

            if (_lines == LinesPerWindow)
            {
                _unlogged++;
                return;
            }

            _lines++;
        }

        LogRefused(address, isKeyShown ? "a wrong key" : "no key");
    }

    /// <inheritdoc/>
    public void Dispose() => _timer?.Dispose();

    private void EndWindow()
    {
        int unlogged;
        lock (_lock)
        {
            unlogged = _unlogged;
            (_isOpen, _lines, _unlogged) = (false, 0, 0);
        }

        if (unlogged > 0)
        {
            LogUnlogged(unlogged, Window.TotalSeconds);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "A request from {Address} had {What} and was answered with 401")]
    private partial void LogRefused(IPAddress? address, string what);

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "{Count} more requests were answered with 401 within {Seconds:0} s and were not logged one by one")]
    private partial void LogUnlogged(int count, double seconds);
}
