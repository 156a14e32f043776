using System.Text;
using Pandora.Engine;
using Pandora.Engine.Guests;

namespace Pandora.Fakes;

/// <summary>
/// A guest that does what the code of a command says, such as <c>exit N</c>, <c>echo TEXT</c>, <c>hang</c> (until it is released or
/// killed), <c>timeout OUTCOME</c> and <c>break</c>.
/// </summary>
internal sealed class FakeGuest : IGuest
{
    private readonly TaskCompletionSource _released = new();

    public List<ProcessSpec> Commands { get; } = [];

    /// <summary>Outcome of a hanging command that is stopped.</summary>
    public CommandOutcome StopOutcome { get; set; } = CommandOutcome.Killed;

    public TaskCompletionSource Hanging { get; } = new();

    public ExecWay Way => ExecWay.Agent;

    public void Release() => _released.TrySetResult();

    public Task<IGuestProcess> StartAsync(ProcessSpec spec, CancellationToken cancellationToken)
    {
        Commands.Add(spec);
        return Task.FromResult<IGuestProcess>(Start(spec));
    }

    public Task<IGuestProcess> AttachAsync(string id, long offset, CancellationToken cancellationToken) =>
        throw new PandoraException(PandoraError.GuestUnreachable, $"there is no process '{id}'");

    public Task<IReadOnlyList<ProcessInfo>> ListAsync(CancellationToken cancellationToken) =>
        Task.FromResult<IReadOnlyList<ProcessInfo>>([]);

    public Task QuiesceAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private FakeProcess Start(ProcessSpec spec)
    {
        switch (spec.Code!.Split(' ', 2))
        {
            case [""]:
                return Ended(0);
            case ["exit", var exitCode]:
                return Ended(int.Parse(exitCode));
            case ["hang"]:
                Hanging.TrySetResult();
                return new FakeProcess([], new ProcessEnd(0))
                {
                    Until = _released.Task,
                    Stop = new CommandStop(StopOutcome, "a test stopped it"),
                };
            case ["timeout"]:
                return Stopped(CommandOutcome.Killed);
            case ["timeout", var outcome]:
                return Stopped(Enum.Parse<CommandOutcome>(outcome));
            case ["break"]:
                throw new PandoraException(PandoraError.GuestUnreachable, "it broke");
            case ["nocwd"]:
                throw PandoraException.Invalid("cwd", "there is no such directory");
            case ["unasked"]:
                return new FakeProcess([], new ProcessEnd(137) { Stopped = Unasked });
            case ["unasked-break"]:
                throw new PandoraException(PandoraError.GuestUnreachable, "it broke") { Stop = Unasked };
            case ["unsent"]:
                throw new PandoraException(PandoraError.GuestUnreachable, "it does not answer") { Stop = CommandStop.NotStarted };
            case ["cat"]:
                return new FakeProcess([], new ProcessEnd(0)) { RepeatsInput = spec.HasInput };
            case ["bytes", var hexadecimal]:
                return new FakeProcess(PiecesOf(Convert.FromHexString(hexadecimal)), new ProcessEnd(0));
            case ["both"]:
                return spec.IsMerged ? Ended(0, "out\nerr\n") : Ended(0, "out\n", "err\n");
            case ["oom", var limit]:
                return new FakeProcess([], new ProcessEnd(137) { OomLimit = long.Parse(limit) });
            case ["timeout-with-all"]:
                var stopped = new CommandStop(CommandOutcome.Killed, "a test says Killed");
                return new FakeProcess(
                    [.. PiecesOf([0x61, 0xFF]), .. Texts("", "and so wrong")], new ProcessEnd(137) { OomLimit = 1024, Stopped = stopped })
                {
                    Dropped = 1,
                };
            case ["truncated"]:
                return new FakeProcess(PiecesOf([0x61]), new ProcessEnd(0)) { Dropped = 1 };
            case ["repeat", var what]:
                return Ended(0, new string(what[^1], int.Parse(what[..^2])));
            case ["crash"]:
                throw new InvalidDataException("a secret of the server's");
            case ["echo", var text]:
                return Ended(0, text + "\n");
            default:
                return Ended(127, "", $"{spec.Code}: not found");
        }
    }

    private static CommandStop Unasked => new(CommandOutcome.Unknown, "a test says that it was not asked") { HasAnswered = false };

    // Each cut where it may cut a character.
    private static List<(OutputStream, byte[])> PiecesOf(byte[] bytes) => [.. bytes.Chunk(5000).Select(c => (OutputStream.Stdout, c))];

    private static FakeProcess Ended(int exitCode, string stdout = "", string stderr = "") =>
        new(Texts(stdout, stderr), new ProcessEnd(exitCode));

    private static FakeProcess Stopped(CommandOutcome outcome) =>
        new(Texts("so far", "and so wrong"), new ProcessEnd(137) { Stopped = new CommandStop(outcome, $"a test says {outcome}") });

    private static (OutputStream, byte[])[] Texts(string stdout, string stderr) =>
        [(OutputStream.Stdout, Encoding.UTF8.GetBytes(stdout)), (OutputStream.Stderr, Encoding.UTF8.GetBytes(stderr))];
}
