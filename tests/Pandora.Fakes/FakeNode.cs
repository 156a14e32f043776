using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Net;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Pandora.Engine.Node;
using Pandora.Engine.Recovery;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Pools;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Templates;
using Pandora.Vmm;

namespace Pandora.Fakes;

/// <summary>A node whose microVMs are fakes: real pool, registry and reaper, fake time. Boots are let through one by one or at once.</summary>
internal sealed class FakeNode : IAsyncDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();
    private readonly SemaphoreSlim _boots;
    private readonly List<(FakeMachine Machine, FakeGuest Guest, MicroVm MicroVm)> _booted = [];
    private readonly ILoggerFactory _loggers;
    private int _slot;

    public FakeNode(EngineOptions? options = null, bool bootsAreFree = true, ILoggerFactory? loggers = null,
        bool isRecovering = false, bool hasAgents = false)
    {
        // Before the first boot.
        Agents = hasAgents ? [] : null;
        Options = options ?? new EngineOptions { PoolSize = 2, MaxSandboxes = 5 };
        Metrics = new EngineMetrics(_services.GetRequiredService<IMeterFactory>());
        _boots = new SemaphoreSlim(bootsAreFree ? int.MaxValue : 0);
        _loggers = loggers ?? NullLoggerFactory.Instance;
        (Pool, Sandboxes) = Start();
        if (!isRecovering)
        {
            Sandboxes.Open();
        }

        _ = new EngineGauges(Metrics.Meter, Options, "tests", FakeServer.Tcg, room: null, Sandboxes, () => [Pool],
            () => (1024, Booted.Count(b => b.MicroVm.IsAlive)), () => (1.5, 1024));
    }

    public EngineOptions Options { get; }

    public FakeTime Time { get; } = new() { AutoAdvanceAmount = TimeSpan.Zero };

    public EngineMetrics Metrics { get; }

    public IMeterFactory Meters => _services.GetRequiredService<IMeterFactory>();

    public WarmPool Pool { get; private set; }

    public SandboxRegistry Sandboxes { get; private set; }

    /// <summary>What taking over a machine waits for, by its id.</summary>
    public Dictionary<string, Task> Undecided { get; } = [];

    /// <summary>Called once clients are served by a new server that has decided nothing yet.</summary>
    public Action? OnDeciding { get; set; }

    /// <summary>Ids of machines that no longer answer when a server attaches.</summary>
    public HashSet<string> Silent { get; } = [];

    /// <summary>Ids of the warm microVMs that the pool looked after, in order.</summary>
    public List<string> Tended { get; } = [];

    /// <summary>Whether looking after one never ends by itself.</summary>
    public bool TendingHangs { get; set; }

    /// <summary>What looking after one ends with.</summary>
    public Exception? TendFailure { get; set; }

    public Dictionary<string, Egress> Egresses { get; } = [];

    /// <summary>Told of each resource that could not be undone.</summary>
    public Action<Undone>? Left { get; set; }

    /// <summary>Why no microVM is handed out; null when nothing is against it.</summary>
    public Exception? ClaimRefusal { get; set; }

    public IReadOnlyList<(FakeMachine Machine, FakeGuest Guest, MicroVm MicroVm)> Booted
    {
        get
        {
            lock (_booted)
            {
                return [.. _booted];
            }
        }
    }

    /// <summary>How long a guest takes to answer a server that takes it over.</summary>
    public TimeSpan AdoptionTime { get; init; }

    public int BootAttempts { get; private set; }

    public Exception? BootFailure { get; set; }

    public string RecordOf(string id) => Path.Combine(_directory, id, "record.json");

    public void AllowBoots(int count) => _boots.Release(count);

    /// <summary>The agents in the guests that were booted; null where guests have none.</summary>
    public ConcurrentDictionary<string, FakeAgent>? Agents { get; }

    public FakeGuest GuestOf(string id) => Booted.Last(b => b.MicroVm.Id == id).Guest;

    public FakeMachine MachineOf(string id) => Booted.Last(b => b.MicroVm.Id == id).Machine;

    /// <summary>Lets the fake clock run, fifty times as fast as a real one, until the result is disposed: for what waits on it behind a request.</summary>
    public IAsyncDisposable RunClock() => new Clock(Time);

    /// <summary>Waits for what other tasks bring about; fails after ten real seconds.</summary>
    public static async Task UntilAsync(Func<bool> condition, [CallerArgumentExpression(nameof(condition))] string what = "")
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        while (!condition())
        {
            if (limit.IsCancellationRequested)
            {
                throw new TimeoutException($"this did not come about within 10 s: {what}");
            }

            await Task.Yield();
        }
    }

    /// <summary>Runs a command and takes its result at once.</summary>
    public async Task<GuestResult> ExecAsync(string id, string code)
    {
        using var execution = await Sandboxes.ExecAsync(id, new GuestCommand { Code = code }, default);
        return execution.Result;
    }

    /// <summary>Ends the server, by kill -9 or so that sandboxes are kept, and starts another on the same records.</summary>
    /// <param name="isKilled">Whether the old one has no say in it.</param>
    /// <param name="meanwhile">What happens while there is none.</param>
    public async Task RestartAsync(bool isKilled, Action? meanwhile = null)
    {
        if (!isKilled)
        {
            await Sandboxes.SuspendAsync(TimeSpan.Zero);
        }

        lock (_booted)
        {
            _booted.ForEach(b => b.Machine.Detach());
        }

        await Pool.SuspendAsync();
        meanwhile?.Invoke();
        var found = MicroVmRecovery.Find(_directory);
        var undecided = found.Where(f => f.Problem is null).ToList();
        (Pool, Sandboxes) = Start(undecided.Count(f => f.Record!.Claim is null));
        var recovery = new MicroVmRecovery(Metrics, Time, NullLogger.Instance);
        Sandboxes.Expect(undecided.Select(f => f.Record!));
        await recovery.UndoAsync(found.Where(f => f.Problem is not null), UndoAsync, Sandboxes.Lose);
        Sandboxes.Open();
        OnDeciding?.Invoke();
        await recovery.RunAsync(undecided, AdoptAsync, Adopted, Lost, default);

        void Adopted(MicroVm microVm)
        {
            if (microVm.Claim is null)
            {
                Pool.Adopt(microVm);
            }
            else
            {
                Sandboxes.Adopt(microVm);
            }
        }

        void Lost(string id, string reason)
        {
            if (undecided.First(f => f.Id == id).Record!.Claim is null)
            {
                Pool.ExpectOneLess();
            }

            Sandboxes.Lose(id, reason);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await Task.WhenAll(Sandboxes.CloseAsync(), Pool.DisposeAsync().AsTask());
        await _services.DisposeAsync();
        Directory.Delete(_directory, recursive: true);
    }

    private (WarmPool Pool, SandboxRegistry Sandboxes) Start(int expected = 0)
    {
        var pool = new WarmPool(
            EngineOptions.DefaultTemplate, Options.PoolSize, int.MaxValue, BootAsync, m => m.Teardown.CompleteAsync(), Metrics, Time, NullLogger.Instance,
            Options.MaxWaiting, expected, TendAsync);
        var sandboxes = new SandboxRegistry(Options, name => name == EngineOptions.DefaultTemplate ? pool : null, SetEgressAsync,
            _ => ClaimRefusal is { } refusal ? throw refusal : default, Metrics, Time, _loggers);
        return (pool, sandboxes);
    }

    private Task SetEgressAsync(MicroVm microVm, Egress egress)
    {
        Egresses[microVm.Id] = egress;
        return Task.CompletedTask;
    }

    private Task TendAsync(MicroVm microVm, CancellationToken cancellationToken)
    {
        lock (Tended)
        {
            Tended.Add(microVm.Id);
        }

        return TendingHangs ? Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, cancellationToken) : TendFailure is { } failure ? Task.FromException(failure) : Task.CompletedTask;
    }

    private async Task<Adoption> AdoptAsync(MicroVmRecord record, CancellationToken stopping)
    {
        await Task.Delay(AdoptionTime, TimeProvider.System, stopping);
        await Undecided.GetValueOrDefault(record.Id, Task.CompletedTask).WaitAsync(stopping);
        await Task.Yield();
        var old = Booted.Last(b => b.MicroVm.Id == record.Id);
        var machine = old.Machine.Attach();
        var microVm = Hold(record, machine, old.Guest);
        return machine.IsRunning && !Silent.Contains(record.Id)
            ? new Adoption(microVm, null, microVm.Teardown)
            : new Adoption(null, "its VMM no longer runs or does not answer", microVm.Teardown);
    }

    private async Task UndoAsync(Found found)
    {
        var machine = Booted.LastOrDefault(b => b.MicroVm.Id == found.Id).Machine?.Attach();
        await (machine?.DisposeAsync() ?? default);
        Directory.Delete(found.Directory, recursive: true);
    }

    private MicroVm Hold(MicroVmRecord record, FakeMachine machine, FakeGuest guest)
    {
        var directory = Path.Combine(_directory, record.Id);
        var teardown = new Teardown(TimeProvider.System, left => Left?.Invoke(left));
        teardown.Push(new HostResource(ResourceKind.Connection, $"directory {record.Id}"), () =>
        {
            if (Directory.Exists(directory))
            {
                Directory.Delete(directory, recursive: true);
            }

            return ValueTask.CompletedTask;
        });
        teardown.Push(new HostResource(ResourceKind.Connection, $"machine {record.Id}"), machine.DisposeAsync);
        var slot = new NetworkSlot(record.Slot, "ns", "if", IPAddress.Parse("10.200.0.1"), IPAddress.Parse("10.200.0.2"));
        var microVm = new MicroVm(new MicroVmFile(directory, record), slot, machine, guest, teardown)
        {
            Agent = Agents is null ? null : new GuestAgent(machine, Time),
        };
        lock (_booted)
        {
            _booted.Add((machine, guest, microVm));
        }

        return microVm;
    }

    private async Task<MicroVm> BootAsync(CancellationToken cancellationToken)
    {
        lock (_booted)
        {
            BootAttempts++;
        }

        await _boots.WaitAsync(cancellationToken);
        if (BootFailure is { } failure)
        {
            throw failure;
        }

        var id = Instance.NewMicroVmId();
        var record = new MicroVmRecord
        {
            Id = id, Instance = "tests", BootId = MicroVmRecord.HostBootId, Template = "default", Slot = Interlocked.Increment(ref _slot), Address = "", Network = "", Uid = 0, HostKey = "", Resources = [], IsReady = true,
            Vmm = new VirtualMachineHandle(id, "", 1, 1, "Fake"),
        };
        record.Write(Directory.CreateDirectory(Path.Combine(_directory, id)).FullName);
        return Hold(record,
            new FakeMachine(id) { Agent = Agents is null ? null : () => Agents.GetOrAdd(id, _ => new FakeAgent()) }, new FakeGuest());
    }

    private sealed class Clock : IAsyncDisposable
    {
        private readonly PeriodicTimer _timer = new(TimeSpan.FromMilliseconds(1));
        private readonly Task _running;

        public Clock(FakeTimeProvider time) => _running = RunAsync(time);

        public async ValueTask DisposeAsync()
        {
            _timer.Dispose();
            await _running;
        }

        private async Task RunAsync(FakeTimeProvider time)
        {
            while (await _timer.WaitForNextTickAsync())
            {
                time.Advance(TimeSpan.FromMilliseconds(50));
            }
        }
    }
}
