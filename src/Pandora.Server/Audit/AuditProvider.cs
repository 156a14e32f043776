using System.Diagnostics;
using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;
using Pandora.Server.Hosting;

namespace Pandora.Server.Audit;

/// <summary>Passes the engine's audit lines on to the audit's file, each with the client of the request's logging scope.</summary>
internal sealed class AuditProvider(AuditLog log, TimeProvider time) : ILoggerProvider, ISupportExternalScope
{
    private IExternalScopeProvider _scopes = new LoggerExternalScopeProvider();

    /// <inheritdoc/>
    public ILogger CreateLogger(string categoryName) => categoryName == AuditLine.Category ? new Logger(this) : NullLogger.Instance;

    /// <inheritdoc/>
    public void SetScopeProvider(IExternalScopeProvider scopeProvider) => _scopes = scopeProvider;

    /// <inheritdoc/>
    public void Dispose()
    {
        // The log has its own end, after that of the engine.
    }

    private void Write(AuditLine line) => log.Write(ToRecord(line));

    private AuditRecord ToRecord(AuditLine line)
    {
        var client = line.IsByServer ? null : FindClient();
        return new AuditRecord
        {
            Time = time.GetUtcNow(),
            Operation = Label.Of(line.Operation),
            Outcome = line.Outcome,
            Sandbox = line.SandboxId,
            Project = line.Project ?? client?.Project,
            Key = client?.Key,
            KeyId = client?.KeyId,
            Address = client?.Address,
            Trace = line.IsByServer ? null : Activity.Current?.TraceId.ToHexString(),
            Template = line.Template,
            Process = line.ProcessId,
            Signal = line.Signal,
            InputBytes = line.InputBytes,
            Path = line.Path,
            Target = line.Target,
            Port = line.Port,
            Public = line.IsPublic,
            Bytes = line.Bytes,
            Warm = line.IsWarm,
            Replayed = line.IsReplayed,
            Egress = line.Egress is { } egress ? Label.Of(egress) : null,
            ExitCode = line.ExitCode,
            Reason = line.Reason is { } reason ? Label.Of(reason) : null,
            Execs = line.ExecCount,
            LivedS = line.Age is { } age ? Math.Round(age.TotalSeconds, 3) : null,
            Ms = Math.Round(line.Elapsed.TotalMilliseconds, 3),
            Command = line.Command?.Text,
            CommandTruncated = line.Command is { IsTruncated: true } ? true : null,
        };
    }

    private ClientScope? FindClient()
    {
        var found = new Found();
        _scopes.ForEachScope(static (scope, state) => state.Client = scope as ClientScope ?? state.Client, found);
        return found.Client;
    }

    private sealed class Found
    {
        public ClientScope? Client { get; set; }
    }

    private sealed class Logger(AuditProvider provider) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (state is AuditLine line)
            {
                provider.Write(line);
            }
        }
    }
}
