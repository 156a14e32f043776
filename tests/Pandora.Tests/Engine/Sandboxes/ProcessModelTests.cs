using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using CsCheck;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

/// <summary>
/// Random histories of processes, their readers and their servers, compared with a model of what each reader must see, which input each
/// process must have, and which processes must live.
/// </summary>
public sealed class ProcessModelTests
{
    private const int Kept = 20;

    private enum Step
    {
        Start, StartCommand, Write, WriteError, Attach, AttachLater, Detach, Input, Repeat, Signal, Kill, End, Leave, KillServer,
        StopServer, Advance, AdvanceLong,
    }

    [Fact]
    public async Task In_any_history_readers_see_every_byte_and_only_those_processes_end_that_must()
    {
        var step = Gen.Select(Gen.Enum<Step>(), Gen.Int[0, 9]);
        await step.Array[1, 40].SampleAsync(RunAsync, iter: 150, threads: 1);
    }

    private static async Task RunAsync((Step Step, int Which)[] history)
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1, MaxSandboxes = 1, MaxLifetime = 0 });
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(IdleTimeout: 7 * 86400), default)).Sandbox;
        var guest = node.GuestOf(sandbox.Id);
        (guest.KeptBytes, guest.PieceSize) = (Kept, 3);
        var model = new List<Modelled>();
        var readers = new List<Reader>();
        var next = 0;
        byte[] Bytes(int count) => [.. Enumerable.Range(0, count).Select(_ => (byte)next++)];

        // The commands that were running when a server died or stopped are killed 60 s later unless a client has attached.
        async Task RestartAsync(bool isKilled)
        {
            await node.RestartAsync(isKilled);
            sandbox = node.Sandboxes.Get(sandbox.Id);
            foreach (var process in model)
            {
                process.Client = null;
                process.MustDie = process.IsCommand && !process.HasEnded;
            }

            // A reader of the old server sees no more, but no wrong byte.
            await Task.WhenAll(readers.Select(r => r.Reading)).WaitAsync(TimeSpan.FromMinutes(1), TimeProvider.System);
            readers.ForEach(r => r.AssertNothingWrong());
            readers.Clear();
        }

        async Task AdvanceAsync(TimeSpan time)
        {
            // Small steps, so that a server that has just started begins to count.
            var mustDie = model.Where(p => p.MustDie && !p.HasEnded).ToList();
            if (time > Sandbox.ReattachLimit)
            {
                await FakeNode.UntilAsync(() =>
                {
                    node.Time.Advance(TimeSpan.FromSeconds(1));
                    return mustDie.TrueForAll(p => p.Run.End is not null);
                });
                mustDie.ForEach(p => p.ExitCode = 137);
                model.ForEach(p => p.MustDie = false);
            }
            else if (mustDie.Count == 0)
            {
                node.Time.Advance(time);
            }
        }

        foreach (var (step, which) in history)
        {
            var living = model.Where(p => !p.HasEnded).ToList();
            var one = living.Count > 0 ? living[which % living.Count] : null;
            switch (step)
            {
                case Step.Start:
                    var spec = new ProcessSpec
                    {
                        Code = "run",
                        HasInput = true,
                        KeepsAlive = which % 2 == 0,
                        WaitsForReader = which % 3 == 0,
                    };
                    var id = (await sandbox.StartProcessAsync(spec, default)).Id;
                    model.Add(new Modelled(guest.RunOf(id)) { Waits = spec.WaitsForReader });
                    break;
                case Step.StartCommand:
                    var code = new GuestCommand { Code = "run", Timeout = TimeSpan.FromDays(6) };
                    var command = await sandbox.StartCommandAsync(code, default);
                    var started = new Modelled(guest.RunOf(command.Id)) { IsCommand = true, Waits = true };
                    var client = new Reader(started, command, 0);
                    started.Client = client;
                    model.Add(started);
                    readers.Add(client);
                    break;
                case Step.Write or Step.WriteError when one is not null:
                    var output = step == Step.Write ? OutputStream.Stdout : OutputStream.Stderr;
                    var bytes = Bytes(which + 1);
                    var written = one.Run.Write(output, bytes);
                    Assert.True(written == bytes.Length || one.Waits);
                    one.Output.AddRange(bytes[..written].Select(b => (output, b)));
                    break;
                case Step.Attach or Step.AttachLater when model.Count > 0:
                    var read = model[which % model.Count];
                    var from = step == Step.Attach ? 0 : Math.Min(which, read.Output.Count);
                    readers.Add(new Reader(read, await sandbox.AttachAsync(read.Run.Id, new ReadFrom(from), default), from));
                    read.MustDie = false;
                    break;
                case Step.Detach when readers.Exists(r => r.Process.Client != r):
                    var leaving = readers.First(r => r.Process.Client != r);
                    await leaving.LeaveAsync();
                    leaving.AssertNothingWrong();
                    readers.Remove(leaving);
                    break;
                case Step.Leave when readers.Exists(r => r.Process.Client == r):
                    var gone = readers.First(r => r.Process.Client == r);
                    await gone.LeaveAsync();
                    gone.AssertNothingWrong();
                    readers.Remove(gone);
                    gone.Process.ExitCode ??= 137;
                    gone.Process.Client = null;
                    break;
                case Step.Input when one is { IsCommand: false }:
                    var input = Bytes(which + 1);
                    await sandbox.WriteInputAsync(one.Run.Id, new MemoryStream(input), null, default);
                    one.Input.AddRange(input);
                    break;
                case Step.Repeat when one is { IsCommand: false }:
                    // A client that does not know what arrived sends the end again, and something new.
                    var offset = Math.Max(0, one.Input.Count - which);
                    var again = one.Input[offset..].Concat(Bytes(2)).ToArray();
                    await sandbox.WriteInputAsync(one.Run.Id, new MemoryStream(again), offset, default);
                    one.Input.AddRange(again[^2..]);
                    break;
                case Step.Signal when one is not null:
                    one.Run.DiesOfSignals = false;
                    await sandbox.SignalProcessAsync(one.Run.Id, 10 + (which % 2), default);
                    one.Signals.Add(10 + (which % 2));
                    break;
                case Step.Kill when one is not null:
                    await sandbox.SignalProcessAsync(one.Run.Id, 9, default);
                    one.Signals.Add(9);
                    one.ExitCode = 137;
                    break;
                case Step.End when one is not null:
                    one.Run.EndWith(which);
                    one.ExitCode = which;
                    break;
                case Step.KillServer:
                    await RestartAsync(isKilled: true);
                    break;
                case Step.StopServer:
                    await RestartAsync(isKilled: false);
                    break;
                case Step.Advance:
                    await AdvanceAsync(TimeSpan.FromSeconds(which));
                    break;
                case Step.AdvanceLong:
                    await AdvanceAsync(TimeSpan.FromSeconds(100));
                    break;
            }

            await FakeNode.UntilAsync(() => readers.TrueForAll(r => r.HasSeenAll));
            readers.ForEach(r => r.AssertNothingWrong());
            foreach (var process in model)
            {
                Assert.Equal(process.ExitCode, process.Run.End?.ExitCode);
                Assert.Equal(process.Input, process.Run.Input);
                Assert.Equal(process.Signals, process.Run.Signals);
            }

            Assert.Equal(
                model.Select(p => (p.Run.Id, p.ExitCode, p.IsCommand, (long)p.Output.Count)),
                (await sandbox.ListProcessesAsync(default)).Select(p => (p.Id, p.End?.ExitCode, p.Facts.IsForeground, p.Facts.OutputEnd)));
            Assert.Empty(guest.Violations);
        }

        readers.Where(r => r.Process.Client == r).ToList().ForEach(r => r.Process.Client = null);
        await Task.WhenAll(readers.Select(r => r.LeaveAsync()));
        await FakeNode.UntilAsync(() => guest.Runs.All(r => r.End is not null || r.ReaderCount <= 1));
    }

    private sealed class Modelled(FakeRun run)
    {
        public FakeRun Run => run;

        public bool IsCommand { get; init; }

        public bool Waits { get; init; }

        /// <summary>The client whose command it is.</summary>
        public Reader? Client { get; set; }

        public bool MustDie { get; set; }

        public int? ExitCode { get; set; }

        public bool HasEnded => ExitCode is not null;

        public List<(OutputStream Stream, byte Value)> Output { get; } = [];

        public List<byte> Input { get; } = [];

        public List<int> Signals { get; } = [];
    }

    /// <summary>A client that reads as fast as it can.</summary>
    [SuppressMessage("Design", "CA1001", Justification = "A reader that is cut has no timer to free")]
    private sealed class Reader
    {
        private readonly ConcurrentQueue<(OutputStream Stream, long Offset, byte[] Bytes)> _seen = new();
        private readonly CancellationTokenSource _leave = new();
        private readonly SandboxProcess _process;
        private readonly long _from;
        private long _offset;
        private volatile bool _hasEnd;

        public Reader(Modelled process, SandboxProcess read, long from)
        {
            (Process, _process, _from, _offset) = (process, read, from, from);
            Reading = Task.Run(ReadAsync);
        }

        public Modelled Process { get; }

        public Task Reading { get; }

        public bool HasSeenAll => Process.HasEnded
            ? _hasEnd
            : Interlocked.Read(ref _offset) == Process.Output.Count;

        public async Task LeaveAsync()
        {
            await _leave.CancelAsync();
            await Reading;
            _leave.Dispose();
        }

        // No byte twice, none of another place, and a gap only where the guest could not keep it.
        public void AssertNothingWrong()
        {
            var offset = _from;
            foreach (var (stream, at, bytes) in _seen)
            {
                Assert.True(at == offset || at >= offset);
                Assert.True(at + bytes.Length <= Process.Output.Count);
                Assert.Equal(Process.Output.Skip((int)at).Take(bytes.Length), bytes.Select(b => (stream, b)));
                offset = at + bytes.Length;
            }

            if (_hasEnd && _process.End!.Offset is { } end)
            {
                Assert.Equal((Process.Output.Count, Process.ExitCode), ((int)end, _process.End.ExitCode));
            }
        }

        private async Task ReadAsync()
        {
            await using (_process)
            {
                try
                {
                    while (await _process.ReadAsync(_leave.Token) is { } output)
                    {
                        _seen.Enqueue((output.Stream, output.Offset, output.Bytes.ToArray()));
                        Interlocked.Exchange(ref _offset, output.Offset + output.Bytes.Length);
                    }

                    _hasEnd = true;
                }
                catch (Exception e) when (e is PandoraException { Error: PandoraError.ShuttingDown } or OperationCanceledException)
                {
                    // The server is gone, or the client leaves.
                }
            }
        }
    }
}
