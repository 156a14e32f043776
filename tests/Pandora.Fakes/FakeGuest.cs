using System.Collections.Concurrent;
using System.Net;
using System.Text;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Guests.Agent;

namespace Pandora.Fakes;

/// <summary>
/// A guest that does what the code of a command says, such as <c>exit N</c>, <c>echo TEXT</c>, <c>hang</c> (until it is released or
/// killed), <c>timeout OUTCOME</c> and <c>break</c>. <c>run</c> is a process that does what a test says: <see cref="FakeRun"/>.
/// The guest outlives servers; each has a <see cref="FakeLink"/> to it.
/// </summary>
internal sealed class FakeGuest(TimeProvider? time = null)
{
    private readonly TaskCompletionSource _released = new();
    private readonly ConcurrentDictionary<string, FakeRun> _runs = new();
    private int _lastRun;

    public TimeProvider Time => time ?? TimeProvider.System;

    public List<ProcessSpec> Commands { get; } = [];

    /// <summary>Outcome of a hanging command that is stopped.</summary>
    public CommandOutcome StopOutcome { get; set; } = CommandOutcome.Killed;

    public TaskCompletionSource Hanging { get; } = new();

    /// <summary>Most bytes of output that are kept of one process.</summary>
    public int KeptBytes { get; set; } = 1024 * 1024;

    /// <summary>Most bytes of output in one message.</summary>
    public int PieceSize { get; set; } = 32 * 1024;

    /// <summary>Whether new processes read their input at once.</summary>
    public bool TakesInput { get; set; } = true;

    /// <summary>Whether its processes have closed their input.</summary>
    public bool RefusesInput { get; set; }

    /// <summary>While it is not complete, bytes of input wait on their way to the guest, as in a full stream.</summary>
    public Task InputPasses { get; set; } = Task.CompletedTask;

    /// <summary>Every request waits for it.</summary>
    public Task Answers { get; set; } = Task.CompletedTask;

    /// <summary>Answers requests for files; null for an agent that knows none.</summary>
    public AgentConnection? Files { get; set; }

    /// <summary>The ports on which programs listen, each with the real listener behind it.</summary>
    public ConcurrentDictionary<int, IPEndPoint> Ports { get; } = new();

    /// <summary>The real listener behind the guest's SSH server; null for a guest that has none.</summary>
    public IPEndPoint? SshServer { get; set; }

    /// <summary>The keys that might log in at each connection to the SSH server.</summary>
    public ConcurrentQueue<IReadOnlyList<string>> SshKeys { get; } = new();

    /// <summary>What the server did and must not do.</summary>
    public ConcurrentQueue<string> Violations { get; } = new();

    /// <summary>The processes that were started and can be attached to, oldest first.</summary>
    public IReadOnlyList<FakeRun> Runs => [.. _runs.Values.OrderBy(r => r.Pid)];

    public void Release() => _released.TrySetResult();

    public FakeRun RunOf(string id) => _runs.TryGetValue(id, out var run)
        ? run
        : throw new PandoraException(PandoraError.ProcessNotFound, $"there is no process '{id}'");

    public void Forget(FakeRun run) => _runs.TryRemove(run.Id, out _);

    /// <summary>Starts a process: a scripted one that is read once, or one that stays.</summary>
    public IGuestProcess Start(ProcessSpec spec, FakeLink link)
    {
        lock (Commands)
        {
            Commands.Add(spec);
        }

        var isFree = (spec.Code ?? string.Join(' ', spec.Arguments)) == "run";
        var scripted = isFree ? null : Start(spec);
        if (spec.IsReadOnce && scripted is not null)
        {
            return scripted;
        }

        var number = Interlocked.Increment(ref _lastRun);
        var run = new FakeRun(this, spec, $"fake{number:d12}", number) { RepeatsInput = scripted?.RepeatsInput == true };
        _runs[run.Id] = run;
        var reader = new FakeReader(link, run, new ReadFrom(0));
        scripted?.WriteTo(run);
        return reader;
    }

    private FakeProcess Start(ProcessSpec spec)
    {
        switch ((spec.Code ?? string.Join(' ', spec.Arguments)).Split(' ', 2))
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
