using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Logging.Console;

namespace Pandora.Server.Hosting;

/// <summary>
/// Writes log lines for people, such as
/// <c>22:01:02.123 info Audit: create 4id… template=default warm=True ms=0.18 client=127.0.0.1 trace=4bf9…</c>.
/// Further lines of a message are indented, and control characters are replaced. So text from a guest (the end of its console) cannot look
/// like a line of the log or control the terminal.
/// </summary>
internal sealed class TextLogFormatter(TimeProvider time) : ConsoleFormatter(FormatterName)
{
    public const string FormatterName = "pandora";

    public override void Write<TState>(in LogEntry<TState> logEntry, IExternalScopeProvider? scopeProvider, TextWriter textWriter)
    {
        var level = logEntry.LogLevel switch
        {
            LogLevel.Information => "info",
            LogLevel.Warning => "warn",
            LogLevel.Error => "fail",
            LogLevel.Critical => "crit",
            _ => "debug",
        };
        textWriter.Write($"{time.GetLocalNow():HH:mm:ss.fff} {level} {logEntry.Category[(logEntry.Category.LastIndexOf('.') + 1)..]}: ");
        WriteSafe(textWriter, logEntry.Formatter(logEntry.State, logEntry.Exception));
        scopeProvider?.ForEachScope(WriteScope, textWriter);
        if (logEntry.Exception is { } exception)
        {
            textWriter.Write("\n    ");
            WriteSafe(textWriter, exception.ToString());
        }

        textWriter.Write('\n');
    }

    private static void WriteScope(object? scope, TextWriter writer)
    {
        foreach (var (name, value) in scope as IEnumerable<KeyValuePair<string, object?>> ?? [])
        {
            // The project is in the text of the lines that belong to one.
            var shown = name switch
            {
                "TraceId" => "trace",
                ClientScope.ClientName => "client",
                ClientScope.KeyName => "key",
                ClientScope.KeyIdName => "key_id",
                _ => null,
            };
            if (shown is not null)
            {
                writer.Write($" {shown}=");
                WriteSafe(writer, $"{value}");
            }
        }
    }

    private static void WriteSafe(TextWriter writer, string text)
    {
        foreach (var letter in text)
        {
            if (letter == '\n')
            {
                writer.Write("\n    ");
            }
            else if (letter != '\r')
            {
                writer.Write(char.IsControl(letter) && letter != '\t' ? '?' : letter);
            }
        }
    }
}
