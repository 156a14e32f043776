using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;

namespace Pandora.Fakes;

/// <summary>A log that keeps every line, of any level.</summary>
internal sealed class KeptLog : ILoggerFactory
{
    public ConcurrentQueue<(string Category, string Text)> Lines { get; } = [];

    /// <summary>Those of the lines that are errors.</summary>
    public ConcurrentQueue<(string Category, string Text)> Errors { get; } = [];

    public ILogger CreateLogger(string categoryName) => new Logger(categoryName, this);

    public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

    public void Dispose()
    {
    }

    private sealed class Logger(string category, KeptLog log) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            var line = (category, formatter(state, exception) + exception);
            log.Lines.Enqueue(line);
            if (logLevel >= LogLevel.Error)
            {
                log.Errors.Enqueue(line);
            }
        }
    }
}
