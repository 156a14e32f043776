using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Guests;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// Records each operation on a sandbox: its metrics, the tags of its span, and one audit line. None of them contains commands, their input
/// or their output.
/// </summary>
internal sealed partial class SandboxJournal(EngineMetrics metrics, ILogger logger)
{
    /// <summary>Category of the audit lines.</summary>
    public const string Category = "Pandora.Audit";

    public void Created(Activity? span, CreatedSandbox created)
    {
        var sandbox = created.Sandbox;
        span?.SetTag("pandora.sandbox.id", sandbox.Id).SetTag("pandora.template", sandbox.Template).SetTag("pandora.warm", created.IsWarm);
        if (sandbox.MicroVm.BootTrace is { } boot)
        {
            span?.AddLink(new ActivityLink(boot));
        }

        metrics.Acquired(sandbox.Template, created.Elapsed);
        LogCreated(sandbox.Id, sandbox.Template, created.IsWarm, created.Elapsed.TotalMilliseconds);
    }

    public void Executed(Activity? span, Sandbox sandbox, GuestResult result, TimeSpan elapsed)
    {
        var status = StatusOf(result);
        span?.SetTag("pandora.sandbox.id", sandbox.Id).SetTag("pandora.exec.status", Label.Of(status))
            .SetTag("pandora.exec.exit_code", result.ExitCode).SetTag("pandora.exec.truncated", result.IsTruncated);
        metrics.Executed(sandbox.Template, status, elapsed);
        if (result.Stopped is { } stopped)
        {
            span?.SetTag("pandora.exec.command", Label.Of(stopped.Outcome));
            metrics.Failed(SandboxOperation.Exec, EngineMetrics.ExecTimeout);
        }

        LogExecuted(sandbox.Id, Label.Of(status), result.ExitCode, elapsed.TotalMilliseconds);
    }

    /// <summary>Records a command that failed.</summary>
    public void ExecutionFailed(Sandbox sandbox, TimeSpan elapsed) => metrics.Executed(sandbox.Template, ExecStatus.Error, elapsed);

    /// <summary>Records that a client did not read a command's whole result.</summary>
    public void NotDelivered() => metrics.Failed(SandboxOperation.Exec, EngineMetrics.NotDelivered);

    public void Ended(Activity? span, EndedSandbox ended)
    {
        var (sandbox, reason) = (ended.Sandbox, Label.Of(ended.End.Reason));
        var lifetime = sandbox.Age;
        span?.SetTag("pandora.sandbox.id", sandbox.Id).SetTag("pandora.end.reason", reason);
        metrics.Ended(sandbox.Template, ended.End.Reason, lifetime, ended.Elapsed);
        LogEnded(sandbox.Id, reason, sandbox.ExecCount, lifetime.TotalSeconds, ended.Elapsed.TotalMilliseconds);
    }

    /// <summary>Records an operation that failed.</summary>
    public void Failed(Activity? span, SandboxOperation operation, string? id, Exception exception)
    {
        var code = CodeOf(exception);
        span?.SetTag("pandora.sandbox.id", id);
        span.Fail(code, exception);
        metrics.Failed(operation, code);
        LogFailed(Label.Of(operation), Bounded(id), code);
    }

    private static ExecStatus StatusOf(GuestResult result)
    {
        if (result.Stopped is not null)
        {
            return ExecStatus.Timeout;
        }

        return result.ExitCode == 0 ? ExecStatus.Success : ExecStatus.Error;
    }

    private static string CodeOf(Exception exception) => exception switch
    {
        PandoraException e => Label.Of(e.Error),
        OperationCanceledException => EngineMetrics.Cancelled,
        _ => EngineMetrics.InternalError,
    };

    // An id comes from the client and may contain any characters, even line breaks.
    private static string Bounded(string? id)
    {
        if (id is null)
        {
            return "-";
        }

        var isWellFormed = id.Length is > 0 and <= 64 && id.All(char.IsAsciiLetterOrDigit);
        return isWellFormed ? id : "(malformed)";
    }

    [LoggerMessage(
        Level = LogLevel.Information,
        EventName = "create",
        Message = "create {SandboxId} template={Template} warm={Warm} ms={Milliseconds:0.###}")]
    private partial void LogCreated(string sandboxId, string template, bool warm, double milliseconds);

    [LoggerMessage(
        Level = LogLevel.Information,
        EventName = "exec",
        Message = "exec {SandboxId} status={Status} exit_code={ExitCode} ms={Milliseconds:0.###}")]
    private partial void LogExecuted(string sandboxId, string status, int exitCode, double milliseconds);

    [LoggerMessage(
        Level = LogLevel.Information,
        EventName = "delete",
        Message = "delete {SandboxId} reason={Reason} execs={Execs} lived_s={Seconds:0.###} ms={Milliseconds:0.###}")]
    private partial void LogEnded(string sandboxId, string reason, int execs, double seconds, double milliseconds);

    [LoggerMessage(Level = LogLevel.Warning, EventName = "failed", Message = "{Operation} {SandboxId} failed code={Code}")]
    private partial void LogFailed(string operation, string sandboxId, string code);
}
