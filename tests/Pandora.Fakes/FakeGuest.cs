using Pandora.Engine;
using Pandora.Engine.Guest;

namespace Pandora.Fakes;

/// <summary>A guest that does what the code says: <c>exit N</c>, <c>echo TEXT</c>, <c>hang</c> (until it is let go or its time is up), <c>timeout</c>, <c>break</c>.</summary>
internal sealed class FakeGuest : IGuest
{
    private readonly TaskCompletionSource _letGo = new();

    public List<GuestCommand> Commands { get; } = [];

    public TaskCompletionSource Hanging { get; } = new();

    public void LetGo() => _letGo.TrySetResult();

    public async Task<GuestResult> ExecAsync(GuestCommand command, CancellationToken cancellationToken)
    {
        Commands.Add(command);
        switch (command.Code.Split(' ', 2))
        {
            case ["exit", var code]:
                return new GuestResult(int.Parse(code), "", "", false, false);
            case ["hang"]:
                Hanging.TrySetResult();
                await _letGo.Task.WaitAsync(cancellationToken);
                return new GuestResult(0, "", "", false, false);
            case ["timeout"]:
                return new GuestResult(137, "so far", "and so wrong", false, true);
            case ["break"]:
                throw new PandoraException(PandoraError.GuestUnreachable, "it broke");
            case ["crash"]:
                throw new InvalidDataException("a secret of the server's");
            case ["echo", var text]:
                return new GuestResult(0, text + "\n", "", false, false);
            default:
                return new GuestResult(127, "", $"{command.Code}: not found", false, false);
        }
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
