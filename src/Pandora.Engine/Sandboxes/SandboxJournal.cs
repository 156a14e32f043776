using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Guests;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// Records each operation on a sandbox: its metrics, the tags of its span, and one audit line. Metrics and spans contain no commands, their
/// input or their output; <see cref="AuditLine"/> says what the audit has of a command.
/// </summary>
internal sealed class SandboxJournal(EngineMetrics metrics, ILogger logger)
{
    public void Created(Activity? span, AuditLine line, CreatedSandbox created)
    {
        var sandbox = created.Sandbox;
        span?.SetTag("pandora.sandbox.id", sandbox.Id).SetTag("pandora.template", sandbox.Template).SetTag("pandora.warm", created.IsWarm);
        if (sandbox.MicroVm.BootTrace is { } boot)
        {
            span?.AddLink(new ActivityLink(boot));
        }

        metrics.Acquired(sandbox.Template, created.Elapsed);
        (line.SandboxId, line.Template, line.IsWarm) = (sandbox.Id, sandbox.Template, created.IsWarm);
        line.IsReplayed = created.IsReplayed ? true : null;
        Done(line);
    }

    public void Executed(Activity? span, AuditLine line, Sandbox sandbox, GuestResult result, TimeSpan elapsed)
    {
        var status = StatusOf(result);
        span?.SetTag("pandora.sandbox.id", sandbox.Id).SetTag("pandora.exec.status", Label.Of(status))
            .SetTag("pandora.exec.exit_code", result.ExitCode).SetTag("pandora.exec.truncated", result.IsTruncated);
        metrics.Executed(sandbox.Template, status, elapsed);
        if (result.Stopped is { } stopped)
        {
            span?.SetTag("pandora.exec.command", Label.Of(stopped.Outcome));
            metrics.Failed(SandboxOperation.Exec, EngineMetrics.ExecTimeout);
            line.Outcome = AuditLine.TimedOut;
        }

        line.ExitCode = result.ExitCode;
        Write(LogLevel.Information, line, elapsed);
    }

    /// <summary>Records a command that failed.</summary>
    public void ExecutionFailed(Sandbox sandbox, TimeSpan elapsed) => metrics.Executed(sandbox.Template, ExecStatus.Error, elapsed);

    /// <summary>Records that a client did not read a command's whole result.</summary>
    public void NotDelivered() => metrics.Failed(SandboxOperation.Exec, EngineMetrics.NotDelivered);

    public void Ended(Activity? span, EndedSandbox ended)
    {
        var (sandbox, reason) = (ended.Sandbox, ended.End.Reason);
        var lifetime = sandbox.Age;
        span?.SetTag("pandora.sandbox.id", sandbox.Id).SetTag("pandora.end.reason", Label.Of(reason));
        metrics.Ended(sandbox.Template, reason, lifetime, ended.Elapsed);
        var line = new AuditLine(reason == EndReason.Deleted ? AuditOperation.Delete : AuditOperation.End)
        {
            SandboxId = sandbox.Id,
            Project = sandbox.Project,
            Template = sandbox.Template,
            Reason = reason,
            ExecCount = sandbox.ExecCount,
            Age = lifetime,
        };
        Write(LogLevel.Information, line, ended.Elapsed);
    }

    /// <summary>Counts a connection to a program in a guest that was opened (1) or closed (-1).</summary>
    public void PortConnected(PortUse use, int change) => metrics.PortConnected(use, change);

    /// <summary>Counts bytes over a connection to a program in a guest.</summary>
    public void PortMoved(PortDirection direction, int bytes) => metrics.PortMoved(direction, bytes);

    /// <summary>Records the end of a sandbox of an earlier server that this server did not adopt.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="record">Its record; null when that cannot be read.</param>
    /// <param name="reason">Why it ended.</param>
    public void Lost(string id, MicroVmRecord? record, EndReason reason) => Done(new AuditLine(AuditOperation.End)
    {
        SandboxId = id,
        Project = record?.Claim?.ProjectName,
        Template = record?.Template,
        Reason = reason,
    });

    /// <summary>Records an operation that was done and has no metric.</summary>
    public void Done(AuditLine line) => Write(LogLevel.Information, line, Stopwatch.GetElapsedTime(line.Start));

    /// <summary>Records an operation that failed.</summary>
    public void Failed(Activity? span, AuditLine line, Exception exception)
    {
        line.Outcome = CodeOf(exception);
        span?.SetTag("pandora.sandbox.id", line.SandboxId);
        span.Fail(line.Outcome, exception);
        if (CountedAs(line.Operation) is { } counted)
        {
            metrics.Failed(counted, line.Outcome);
        }

        Write(LogLevel.Warning, line, Stopwatch.GetElapsedTime(line.Start));
    }

    /// <summary>
    /// Records what failed while a client was attached to a process. It is not counted, because it is not the answer to a request.
    /// </summary>
    public void Cut(AuditLine line, Exception exception)
    {
        line.Outcome = CodeOf(exception);
        Write(LogLevel.Warning, line, Stopwatch.GetElapsedTime(line.Start));
    }

    /// <summary>Records the failure of an operation that only reads a state: the audit has no line for it.</summary>
    public void Failed(SandboxOperation operation, Exception exception) => metrics.Failed(operation, CodeOf(exception));

    /// <summary>An id from a client, which may contain any characters, even line breaks.</summary>
    public static string Bounded(string id)
    {
        var isWellFormed = id.Length is > 0 and <= 64 && id.All(char.IsAsciiLetterOrDigit);
        return isWellFormed ? id : "(malformed)";
    }

    /// <summary>The operation in the audit of one that is counted; null when the audit has several for it, or none.</summary>
    public static AuditOperation? AuditedAs(SandboxOperation operation) => operation switch
    {
        SandboxOperation.Create => AuditOperation.Create,
        SandboxOperation.Exec => AuditOperation.Exec,
        SandboxOperation.Egress => AuditOperation.Egress,
        SandboxOperation.Delete => AuditOperation.Delete,
        SandboxOperation.Process or SandboxOperation.File or SandboxOperation.Port or SandboxOperation.Ssh => null,
    };

    // A keepalive fails only because the sandbox has ended, and the server's own ends have metrics of their own.
    private static SandboxOperation? CountedAs(AuditOperation operation) => operation switch
    {
        AuditOperation.Create => SandboxOperation.Create,
        AuditOperation.Exec => SandboxOperation.Exec,
        AuditOperation.Egress => SandboxOperation.Egress,
        AuditOperation.Delete => SandboxOperation.Delete,
        AuditOperation.Keepalive or AuditOperation.End => null,
        AuditOperation.FileRead or AuditOperation.FileWrite or AuditOperation.FileChange or AuditOperation.FileWatch =>
            SandboxOperation.File,
        AuditOperation.PortConnect or AuditOperation.PortPublic or AuditOperation.PortLink => SandboxOperation.Port,
        AuditOperation.Ssh or AuditOperation.SshKeys => SandboxOperation.Ssh,
        _ => SandboxOperation.Process,
    };

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
        // A body that ends early is a client that went away.
        OperationCanceledException or FileBodyException => EngineMetrics.Cancelled,
        _ => EngineMetrics.InternalError,
    };

    // Not a [LoggerMessage], whose members every logger prints: the command is for the audit's own file only.
    private void Write(LogLevel level, AuditLine line, TimeSpan elapsed)
    {
        line.Elapsed = elapsed;
        logger.Log(level, new EventId(0, Label.Of(line.Operation)), line, null, static (l, _) => l.ToString());
    }
}
