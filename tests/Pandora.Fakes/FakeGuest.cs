using Pandora.Engine;
using Pandora.Engine.Guests;

namespace Pandora.Fakes;

/// <summary>
/// A guest that does what the code of a command says, such as <c>exit N</c>, <c>echo TEXT</c>, <c>hang</c> (until it is released or
/// cancelled), <c>timeout OUTCOME</c> and <c>break</c>.
/// </summary>
internal sealed class FakeGuest : IGuest
{
    private readonly TaskCompletionSource _released = new();

    public List<GuestCommand> Commands { get; } = [];

    /// <summary>Outcome of a hanging command that is stopped.</summary>
    public CommandOutcome StopOutcome { get; set; } = CommandOutcome.Killed;

    public TaskCompletionSource Hanging { get; } = new();

    public void Release() => _released.TrySetResult();

    public async Task<GuestResult> ExecAsync(GuestCommand command, CancellationToken cancellationToken)
    {
        Commands.Add(command);
        switch (command.Code.Split(' ', 2))
        {
            case [""]:
                return Ended(0);
            case ["exit", var code]:
                return Ended(int.Parse(code));
            case ["hang"]:
                Hanging.TrySetResult();
                await Task.WhenAny(_released.Task, Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, cancellationToken));
                if (!_released.Task.IsCompleted)
                {
                    throw new CommandStoppedException(new CommandStop(StopOutcome, "a test stopped it"), cancellationToken);
                }

                return Ended(0);
            case ["timeout"]:
                return Stopped(CommandOutcome.Killed);
            case ["timeout", var outcome]:
                return Stopped(Enum.Parse<CommandOutcome>(outcome));
            case ["break"]:
                throw new PandoraException(PandoraError.GuestUnreachable, "it broke");
            case ["nocwd"]:
                throw PandoraException.Invalid("cwd", "there is no such directory");
            case ["unasked"]:
                return new GuestResult(137, GuestOutput.Empty, GuestOutput.Empty, Unasked);
            case ["unasked-break"]:
                throw new PandoraException(PandoraError.GuestUnreachable, "it broke") { Stop = Unasked };
            case ["unsent"]:
                throw new PandoraException(PandoraError.GuestUnreachable, "it does not answer") { Stop = CommandStop.NotStarted };
            case ["truncated"]:
                return new GuestResult(0, new GuestOutput([], isTruncated: true), GuestOutput.Empty);
            case ["repeat", var what]:
                return Ended(0, new string(what[^1], int.Parse(what[..^2])));
            case ["crash"]:
                throw new InvalidDataException("a secret of the server's");
            case ["echo", var text]:
                return Ended(0, text + "\n");
            default:
                return Ended(127, "", $"{command.Code}: not found");
        }
    }

    private static CommandStop Unasked => new(CommandOutcome.Unknown, "a test says that it was not asked") { HasAnswered = false };

    private static GuestResult Ended(int exitCode, string stdout = "", string stderr = "") =>
        new(exitCode, GuestOutput.FromText(stdout), GuestOutput.FromText(stderr));

    private static GuestResult Stopped(CommandOutcome outcome) =>
        new(137, GuestOutput.FromText("so far"), GuestOutput.FromText("and so wrong"), new CommandStop(outcome, $"a test says {outcome}"));

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
