using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Node;
using Pandora.Engine.Pools;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Templates;
using Pandora.Vmm;

namespace Pandora.Fakes;

/// <summary>
/// The real node on a fake VMM, fake guests, a fake network and fake time, in directories of its own: no root, no process. Boots are let
/// through one by one or at once. Its watches stand still unless they are wanted: most tests ask them themselves. What outlives a server on
/// a host outlives it here: it can be stopped or killed, and opened again.
/// </summary>
internal sealed class FakeNode : IAsyncDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();
    private readonly ConcurrentDictionary<string, FakeGuest> _guests = new();
    private readonly ConcurrentQueue<string> _order = new(), _maintained = new();
    private readonly ILoggerFactory _loggers;
    private readonly bool _hasWatches;
    private PandoraEngine _engine;

    public FakeNode(EngineOptions? options = null, bool bootsAreFree = true, ILoggerFactory? loggers = null,
        bool isRecovering = false, bool hasAgents = false, bool canSnapshot = false, bool hasWatches = false)
    {
        _hasWatches = hasWatches;
        _loggers = loggers ?? NullLoggerFactory.Instance;
        Options = options ?? new EngineOptions { PoolSize = 2, MaxSandboxes = 5 };
        Options.DataDir = Path.Combine(_directory, "data");
        Options.RunDir = Path.Combine(_directory, "run");
        Options.BootParallelism = Options.BootParallelism > 0 ? Options.BootParallelism : 64;
        // Whatever room the disk under the tests has.
        (Options.DiskReserve, Options.DiskShare) = (0, 0);
        AddTemplate(EngineOptions.DefaultTemplate);
        Agents = hasAgents ? [] : null;
        Vmm = new FakeVmm(bootsAreFree)
        {
            Agent = hasAgents ? id => Agents!.GetOrAdd(id, _ => new FakeAgent(Time) { OnClockRead = times => Looked(id, times) }) : null,
            SnapshotCompatibility = canSnapshot ? "fake 1" : null,
        };
        Metrics = new EngineMetrics(Meters);
        _engine = OpenAsync(mustRecover: !isRecovering).GetAwaiter().GetResult();
    }

    public EngineOptions Options { get; }

    public FakeTime Time { get; } = new() { AutoAdvanceAmount = TimeSpan.Zero };

    public EngineMetrics Metrics { get; }

    public IMeterFactory Meters => _services.GetRequiredService<IMeterFactory>();

    public FakeVmm Vmm { get; }

    public FakeNetwork Network { get; } = new();

    public PandoraEngine Engine => _engine;

    public WarmPool Pool => _engine.Pools.Of(EngineOptions.DefaultTemplate);

    public SandboxRegistry Sandboxes => _engine.Sandboxes;

    /// <summary>What taking over a machine waits for, by its id.</summary>
    public Dictionary<string, Task> Undecided { get; } = [];

    /// <summary>Called once clients are served by a new server that has decided nothing yet.</summary>
    public Action? OnDeciding { get; set; }

    /// <summary>Ids of machines that no longer answer when a server attaches.</summary>
    public HashSet<string> Silent { get; } = [];

    /// <summary>What a microVM may reach, where a claim has set it.</summary>
    public IReadOnlyDictionary<string, Egress> Egresses => Network.Egresses;

    /// <summary>Why no microVM is handed out; null when nothing is against it.</summary>
    public Exception? ClaimRefusal
    {
        get => Network.ClaimRefusal;
        set => Network.ClaimRefusal = value;
    }

    /// <summary>What boots fail with at the step <c>vmm</c>; null when they do not.</summary>
    public Exception? BootFailure
    {
        get => Vmm.StartFailure;
        set => Vmm.StartFailure = value;
    }

    /// <summary>What was booted, oldest first.</summary>
    public IReadOnlyList<(FakeMachine Machine, FakeGuest Guest, string Id)> Booted =>
        [.. _order.Select(id => (Vmm.MachineOf(id), _guests[id], id))];

    /// <summary>How long a guest takes to answer a server that takes it over.</summary>
    public TimeSpan AdoptionTime { get; init; }

    public int BootAttempts => Vmm.Attempts;

    /// <summary>The agents in the guests that were booted; null where guests have none.</summary>
    public ConcurrentDictionary<string, FakeAgent>? Agents { get; }

    /// <summary>Ids of the warm microVMs that the pool looked after, in order: whose clock was asked for again after their boot.</summary>
    public IReadOnlyList<string> Maintained => [.. _maintained];

    public string RecordOf(string id) => Path.Combine(Options.RunDir, _engine.Status.Instance, id, "record.json");

    public void AllowBoots(int count) => Vmm.AllowStarts(count);

    public FakeGuest GuestOf(string id) => _guests[id];

    public FakeMachine MachineOf(string id) => Vmm.MachineOf(id);

    /// <summary>
    /// Lets the fake clock run, fifty times as fast as a real one, until the result is disposed: for what waits on it behind a request.
    /// </summary>
    public IAsyncDisposable RunClock() => new Clock(Time);

    /// <summary>Waits for what other tasks bring about; fails after ten real seconds.</summary>
    public static async Task UntilAsync(Func<bool> condition, [CallerArgumentExpression(nameof(condition))] string what = "")
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(10), TimeProvider.System);
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
        using var execution = await StartAsync(id, new GuestCommand { Code = code });
        return execution.Result;
    }

    /// <summary>Runs a command as a front end does.</summary>
    public Task<Execution> StartAsync(string id, GuestCommand command, CancellationToken cancellationToken = default) =>
        Sandboxes.GetFor(id, SandboxOperation.Exec).ExecAsync(command, cancellationToken);

    /// <summary>Adds a template.</summary>
    public void AddTemplate(string name)
    {
        var directory = Directory.CreateDirectory(Path.Combine(Options.TemplatePath, name)).FullName;
        var template = new Template(name, $"key of {name}", Time.GetUtcNow(), 1, 256, "for tests") { Directory = directory };
        File.WriteAllText(Path.Combine(directory, "template.json"), JsonSerializer.Serialize(template, TemplateJson.Default.Template));
        template.Files.ToList().ForEach(f => File.WriteAllText(f, $"{Path.GetFileName(f)} of {name}"));
    }

    /// <summary>Stops the server and starts the next one. One that is killed neither waits for commands nor ends a machine.</summary>
    /// <param name="isKilled">Whether it is killed, instead of stopped with all kept.</param>
    /// <param name="meanwhile">What happens while there is none.</param>
    public async Task RestartAsync(bool isKilled, Action? meanwhile = null)
    {
        if (isKilled)
        {
            // A server that is killed while it boots is tried with real VMs: AdoptionTests.
            await UntilAsync(() => _engine.Pools.All.All(p => p.BootingCount == 0));
            // It hears nothing of them any more, and can do nothing to them.
            Vmm.Machines.ToList().ForEach(m => m.Detach());
        }

        await _engine.StopAsync(keep: true, TimeSpan.Zero);
        meanwhile?.Invoke();
        var isFirst = 1;
        Vmm.OnAttaching = () =>
        {
            if (Interlocked.Exchange(ref isFirst, 0) == 1)
            {
                OnDeciding?.Invoke();
            }
        };
        _engine = await OpenAsync(mustRecover: false);
        await _engine.RecoverAsync();
    }

    /// <summary>Stops the server, and leaves what it leaves.</summary>
    public Task StopAsync(bool keep) => _engine.StopAsync(keep, TimeSpan.Zero);

    /// <summary>Opens a server on the directories, after one was stopped.</summary>
    public async Task<PandoraEngine> OpenAsync(bool mustRecover)
    {
        var engine = await PandoraEngine.OpenAsync(Options, Vmm, Metrics, Time, _loggers, CancellationToken.None, Host);
        _engine = engine;
        if (mustRecover)
        {
            await engine.RecoverAsync();
        }

        return engine;
    }

    /// <summary>What the node uses of its host.</summary>
    public NodeHost Host => new()
    {
        OpenNetwork = Network.OpenAsync,
        CleanUpNetwork = Network.CleanUpAsync,
        OpenGuests = (_, _, _, _) => Task.FromResult(new GuestAccess("ssh-ed25519 of the tests", ConnectAsync)),
        CgroupRoot = Path.Combine(_directory, "cgroup"),
        LockDirectory = Path.Combine(_directory, "locks"),
        WatchTime = _hasWatches ? null : new FakeTimeProvider(),
    };

    public async ValueTask DisposeAsync()
    {
        await _engine.StopAsync(keep: false);
        await _services.DisposeAsync();
        Directory.Delete(_directory, recursive: true);
    }

    private void Looked(string id, int times)
    {
        if (times > 1)
        {
            _maintained.Enqueue(id);
        }
    }

    private async Task<IGuest> ConnectAsync(GuestLogin login, CancellationToken cancellationToken)
    {
        var id = Vmm.FindIn(Network.NamespaceOf(login.Address)) ?? throw new VmmException("nobody answers there");
        if (login.IsAdopted)
        {
            await Task.Delay(AdoptionTime, TimeProvider.System, cancellationToken);
            await Undecided.GetValueOrDefault(id, Task.CompletedTask).WaitAsync(cancellationToken);
            if (Silent.Contains(id))
            {
                throw new VmmException("its VMM no longer runs or does not answer");
            }
        }

        var guest = _guests.GetOrAdd(id, _ => new FakeGuest());
        if (!login.IsAdopted)
        {
            _order.Enqueue(id);
        }

        return guest;
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
