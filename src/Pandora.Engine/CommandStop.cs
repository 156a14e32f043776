namespace Pandora.Engine;

/// <summary>What became of a command that did not end by itself.</summary>
public enum CommandOutcome
{
    /// <summary>It was killed and looked up afterwards: its shell has gone, its cgroup is empty, and no process bears its mark.</summary>
    Killed,

    /// <summary>It was to be killed, and the guest does not confirm that all of it is gone, or has not been asked yet.</summary>
    Unknown,

    /// <summary>Nothing of it was given to the guest.</summary>
    NotStarted,

    /// <summary>The guest did not answer when the command was to be killed.</summary>
    Unreachable,
}

/// <summary>How a command was stopped: for its time, or because its caller went away.</summary>
/// <param name="Outcome">What became of it.</param>
/// <param name="Words">What was checked and found, for people: the end of a sentence about the command.</param>
public sealed record CommandStop(CommandOutcome Outcome, string Words)
{
    /// <summary>Nothing was sent.</summary>
    internal static readonly CommandStop NotStarted = new(
        CommandOutcome.NotStarted, "it had not been given to the guest yet and was not started");

    /// <summary>Whether the guest answered when it was asked about the command.</summary>
    public bool HasAnswered { get; init; } = Outcome is CommandOutcome.Killed or CommandOutcome.Unknown;
}

/// <summary>A command's caller went away, and it was stopped.</summary>
internal sealed class CommandStoppedException(CommandStop stop, CancellationToken cancellationToken)
    : OperationCanceledException(stop.Words, cancellationToken)
{
    /// <summary>What became of it.</summary>
    public CommandStop Stop { get; } = stop;
}
