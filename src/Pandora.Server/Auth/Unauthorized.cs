using System.Net;
using Pandora.Server.Hosting;

namespace Pandora.Server.Auth;

/// <summary>
/// Counts and logs the requests that were told 401. At most ten lines a minute, so that nobody can fill a disk without a key, and then one
/// line that tells how many were left out. What was shown as a key is never logged.
/// </summary>
internal sealed partial class Unauthorized(ServerMetrics metrics, TimeProvider time, ILogger<Unauthorized> logger) : IDisposable
{
    internal const int LinesAWindow = 10;
    internal static readonly TimeSpan Window = TimeSpan.FromMinutes(1);
    private readonly Lock _lock = new();
    private ITimer? _timer;
    private bool _isOpen;
    private int _lines;
    private int _leftOut;

    /// <summary>A request was told 401.</summary>
    /// <param name="address">The client's, or that of the proxy before the server.</param>
    /// <param name="isKeyShown">Whether it had a key, which was wrong.</param>
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

            if (_lines == LinesAWindow)
            {
                _leftOut++;
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
        int leftOut;
        lock (_lock)
        {
            leftOut = _leftOut;
            (_isOpen, _lines, _leftOut) = (false, 0, 0);
        }

        if (leftOut > 0)
        {
            LogLeftOut(leftOut, Window.TotalSeconds);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "A request from {Address} showed {What} and was told 401")]
    private partial void LogRefused(IPAddress? address, string what);

    [LoggerMessage(
        Level = LogLevel.Warning, Message = "{Count} more requests were told 401 within {Seconds:0} s, and have no line of their own")]
    private partial void LogLeftOut(int count, double seconds);
}
