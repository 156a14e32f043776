using Microsoft.Extensions.Logging.Console;

namespace Pandora.Server.Hosting;

/// <summary>How log lines look.</summary>
public enum LogFormat
{
    /// <summary>One line for people.</summary>
    Text,

    /// <summary>One JSON object a line for machines.</summary>
    Json,
}

/// <summary>Sets up the log: standard output, as text or JSON, each line with the trace and the client that it belongs to.</summary>
internal static class Logs
{
    public static ILoggingBuilder AddPandoraLogs(this ILoggingBuilder logging, LogFormat format)
    {
        logging.Configure(o => o.ActivityTrackingOptions = ActivityTrackingOptions.TraceId | ActivityTrackingOptions.SpanId);
        // A reader that stalls must not hold up claims: lines are dropped, and the log says so.
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
        // Why a start failed is told once, in one sentence, by Program.
        logging.AddFilter("Microsoft.Extensions.Hosting.Internal.Host", LogLevel.None);
        return logging;
    }
}
