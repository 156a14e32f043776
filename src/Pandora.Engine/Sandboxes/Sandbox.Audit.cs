using System.Diagnostics;
using Pandora.Engine.Guests;

namespace Pandora.Engine.Sandboxes;

// The audit lines of operations in a sandbox.
public sealed partial class Sandbox
{
    /// <summary>Begins the line of an operation.</summary>
    /// <param name="operation">The operation.</param>
    /// <param name="process">The process that the client names; null for none.</param>
    internal AuditLine Audit(AuditOperation operation, string? process = null) => new(operation)
    {
        SandboxId = Id,
        Project = Project,
        ProcessId = process is null ? null : SandboxJournal.Bounded(process),
    };

    /// <summary>Records a command whose output was read as it came.</summary>
    internal void RecordEnd(AuditLine line, ProcessEnd end, TimeSpan elapsed) => _node.Journal.Executed(
        Activity.Current, line, this, new GuestResult(end.ExitCode, GuestOutput.Empty, GuestOutput.Empty, end.Stopped), elapsed);

    /// <summary>
    /// Records a command whose end was not read: its client went away, the sandbox ended, the server stops, or the guest was lost.
    /// </summary>
    internal void RecordStopped(AuditLine line, Exception? failure, TimeSpan elapsed)
    {
        _node.Journal.ExecutionFailed(this, elapsed);
        _node.Journal.Failed(null, line, failure as PandoraException ?? Stopping() ?? failure ?? new OperationCanceledException());
    }

    /// <summary>Records that a client no longer reads a process. It may stop at any time: that is no failure.</summary>
    internal void RecordRead(AuditLine line, Exception? failure, ProcessEnd? end)
    {
        line.ExitCode = end?.ExitCode;
        RecordControl(line, failure is OperationCanceledException ? Stopping() : failure);
    }

    /// <summary>Records that a client no longer reads a file, an archive or a watch, and why it failed; null when it did not.</summary>
    internal void RecordFiles(AuditLine line, Exception? failure) =>
        RecordControl(line, failure is OperationCanceledException ? Stopping() ?? failure : failure);

    /// <summary>Records what a client did to a process that it is attached to, and why it failed; null when it was done.</summary>
    internal void RecordControl(AuditLine line, Exception? failure)
    {
        if (failure is null)
        {
            _node.Journal.Done(line);
        }
        else
        {
            _node.Journal.Cut(line, failure);
        }
    }

    private void RecordDone(AuditLine line) => _node.Journal.Done(line);

    private void RecordFailed(AuditLine line, Exception exception) => _node.Journal.Failed(null, line, exception);

    private AuditLine AuditCommand(AuditOperation operation, Func<AuditedCommand> command)
    {
        var line = Audit(operation);
        line.Command = _node.Projects(Project).AuditsCommands ? command() : null;
        return line;
    }

    // Why what runs in the sandbox stops although no client asked for it; null when it does not.
    private PandoraException? Stopping()
    {
        if (End is { } end)
        {
            return Ended(Id, end);
        }

        return IsDetaching ? NextServerKnows() : null;
    }
}
