namespace Pandora.Engine;

/// <summary>The outcome for a command that did not end by itself.</summary>
public enum CommandOutcome
{
    /// <summary>
    /// It was killed, and the guest checked afterwards: its shell has gone, its cgroup is empty, and no process bears its mark.
    /// </summary>
    Killed,

    /// <summary>A kill was due, but the guest does not confirm that all processes are gone, or was not asked yet.</summary>
    Unknown,

    /// <summary>The guest received nothing of the command.</summary>
    NotStarted,

    /// <summary>The guest did not answer the request to kill the command.</summary>
    Unreachable,
}

/// <summary>How a command was stopped: because its time was over, or because its caller went away.</summary>
/// <param name="Outcome">The outcome for the command.</param>
/// <param name="Words">The result of the check, for people: the end of a sentence about the command.</param>
public sealed record CommandStop(CommandOutcome Outcome, string Words)
{
    /// <summary>Nothing of the command was sent to the guest.</summary>
    internal static readonly CommandStop NotStarted = new(
        CommandOutcome.NotStarted, "it had not been given to the guest yet and was not started");

    /// <summary>Whether the guest answered when it was asked about the command.</summary>
    public bool HasAnswered { get; init; } = Outcome is CommandOutcome.Killed or CommandOutcome.Unknown;
}

/// <summary>A command was stopped because its caller went away.</summary>
internal sealed class CommandStoppedException(CommandStop stop, CancellationToken cancellationToken)
    : OperationCanceledException(stop.Words, cancellationToken)
{
    /// <summary>How the command was stopped.</summary>
    public CommandStop Stop { get; } = stop;
}
