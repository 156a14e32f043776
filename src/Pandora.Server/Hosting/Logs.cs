using Microsoft.Extensions.Logging.Console;

namespace Pandora.Server.Hosting;

/// <summary>The format of log lines.</summary>
public enum LogFormat
{
    /// <summary>One line of text, for people.</summary>
    Text,

    /// <summary>One JSON object per line, for programs.</summary>
    Json,
}

/// <summary>Sets up the log: it goes to standard output as text or JSON, each line with its trace and its client.</summary>
internal static class Logs
{
    public static ILoggingBuilder AddPandoraLogs(this ILoggingBuilder logging, LogFormat format)
    {
        logging.Configure(o => o.ActivityTrackingOptions = ActivityTrackingOptions.TraceId | ActivityTrackingOptions.SpanId);
        // A reader that stalls must not delay claims: lines are dropped, and the log says how many.
        logging.AddConsole(o =>
        {
            o.FormatterName = format == LogFormat.Json ? ConsoleFormatterNames.Json : TextLogFormatter.FormatterName;
            o.QueueFullMode = ConsoleLoggerQueueFullMode.DropWrite;
        });
        logging.Services.Configure<JsonConsoleFormatterOptions>(o =>
        {
            o.IncludeScopes = true;
            o.UseUtcTimestamp = true;
            o.TimestampFormat = "yyyy-MM-ddTHH:mm:ss.fffZ";
        });
        logging.AddConsoleFormatter<TextLogFormatter, ConsoleFormatterOptions>(o => o.IncludeScopes = true);
        logging.AddFilter("Microsoft.AspNetCore", LogLevel.Warning);
        // Program reports why a start failed, once and in one sentence.
        logging.AddFilter("Microsoft.Extensions.Hosting.Internal.Host", LogLevel.None);
        return logging;
    }
}
