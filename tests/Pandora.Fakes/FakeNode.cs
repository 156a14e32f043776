using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Pandora.Engine;
using Pandora.Engine.Admission;
using Pandora.Engine.Guests;
using Pandora.Engine.Node;
using Pandora.Engine.Pools;
using Pandora.Engine.Projects;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Templates;
using Pandora.Vmm;

namespace Pandora.Fakes;

/// <summary>
/// The real node on a fake VMM, fake guests, a fake network and fake time, in temporary directories. It needs no root and starts no
/// process. Boots run freely, or a test allows them one by one. The periodic watches run only if a test wants them; most tests call them
/// directly. What outlives a server on a real host outlives it here: the node can be stopped or killed, and opened again.
/// </summary>
internal sealed class FakeNode : IAsyncDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();
    private readonly ConcurrentDictionary<string, FakeGuest> _guests = new();
    private readonly ConcurrentBag<FakeLink> _links = [];
    private readonly ConcurrentQueue<string> _order = new(), _maintained = new();
    private readonly ConcurrentQueue<int> _formatted = new();
    private readonly ILoggerFactory _loggers;
    private readonly bool _hasWatches;
    private readonly FindProject? _projects;
    private readonly HostCapacity _capacity;
    private PandoraEngine _engine;

    public FakeNode(EngineOptions? options = null, bool bootsAreFree = true, ILoggerFactory? loggers = null,
        bool isRecovering = false, bool hasAgents = false, bool canSnapshot = false, bool hasWatches = false,
        FindProject? projects = null, HostCapacity? capacity = null)
    {
        (_hasWatches, _projects) = (hasWatches, projects);
        _capacity = capacity ?? new HostCapacity(1024 * 1024, 1024);
        _loggers = loggers ?? NullLoggerFactory.Instance;
        Options = options ?? new EngineOptions { PoolSize = 2, MaxSandboxes = 5 };
        Options.DataDir = Path.Combine(_directory, "data");
        Options.RunDir = Path.Combine(_directory, "run");
        Options.BootParallelism = Options.BootParallelism > 0 ? Options.BootParallelism : 64;
        // So that tests run on a disk with any free space.
        (Options.DiskReserve, Options.DiskShare) = (0, 0);
        AddTemplate(EngineOptions.DefaultTemplate);
        Agents = hasAgents ? [] : null;
        Vmm = new FakeVmm(bootsAreFree)
        {
            Agent = hasAgents ? AgentOf : null,
            SnapshotCompatibility = canSnapshot ? "fake 1" : null,
        };
        Metrics = new EngineMetrics(Meters);
        try
        {
            _engine = OpenAsync(mustRecover: !isRecovering).GetAwaiter().GetResult();
        }
        catch
        {
            Directory.Delete(_directory, recursive: true);
            throw;
        }
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

    /// <summary>Tasks that the adoption of a microVM waits for, by its id.</summary>
    public Dictionary<string, Task> Undecided { get; } = [];

    /// <summary>Called when a restarted server attaches to its first machine. It then serves clients and has adopted no microVM.</summary>
    public Action? OnDeciding { get; set; }

    /// <summary>Ids of microVMs whose guests do not answer a server that adopts them.</summary>
    public HashSet<string> Silent { get; } = [];

    /// <summary>The egress that claims have set, by microVM.</summary>
    public IReadOnlyDictionary<string, Egress> Egresses => Network.Egresses;

    /// <summary>Error that refuses every claim; null when claims are allowed.</summary>
    public Exception? ClaimRefusal
    {
        get => Network.ClaimRefusal;
        set => Network.ClaimRefusal = value;
    }

    /// <summary>Error of every boot at the step <c>vmm</c>; null when boots work.</summary>
    public Exception? BootFailure
    {
        get => Vmm.StartFailure;
        set => Vmm.StartFailure = value;
    }

    /// <summary>The microVMs that were booted, oldest first.</summary>
    public IReadOnlyList<(FakeMachine Machine, FakeGuest Guest, string Id)> Booted =>
        [.. _order.Select(id => (Vmm.MachineOf(id), _guests[id], id))];

    /// <summary>Time that a guest takes to answer a server that adopts its microVM, in real time.</summary>
    public TimeSpan AdoptionTime { get; init; }

    public int BootAttempts => Vmm.Attempts;

    /// <summary>The agents in the booted guests, by microVM; null when guests have no agent.</summary>
    public ConcurrentDictionary<string, FakeAgent>? Agents { get; }

    /// <summary>Ids of the warm microVMs that the pool maintained, in order: those whose clock was read again after their boot.</summary>
    public IReadOnlyList<string> Maintained => [.. _maintained];

    /// <summary>Sizes in MiB of the disks that were formatted, in order.</summary>
    public IReadOnlyList<int> Formatted => [.. _formatted];

    public string RecordOf(string id) => Path.Combine(Options.RunDir, _engine.Status.Instance, id, "record.json");

    public void AllowBoots(int count) => Vmm.AllowStarts(count);

    public FakeGuest GuestOf(string id) => _guests[id];

    public FakeMachine MachineOf(string id) => Vmm.MachineOf(id);

    /// <summary>
    /// Runs the fake clock until the result is disposed. For code that waits on it during a request.
    /// </summary>
    /// <param name="speed">How many times as fast as a real clock.</param>
    public IAsyncDisposable RunClock(int speed = 10) => new Clock(Time, speed);

    /// <summary>
    /// Waits until a condition holds that other tasks bring about. Fails after two real minutes: machines that run tests may be slow.
    /// </summary>
    public static async Task UntilAsync(Func<bool> condition, [CallerArgumentExpression(nameof(condition))] string what = "")
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(2), TimeProvider.System);
        using var pause = new PeriodicTimer(TimeSpan.FromMilliseconds(1));
        for (var i = 0; !condition(); i++)
        {
            if (limit.IsCancellationRequested)
            {
                throw new TimeoutException($"this condition did not hold within two minutes: {what}");
            }

            if (i % 50 < 49)
            {
                await Task.Yield();
            }
            else
            {
                // Those that it waits for need the processor.
                await pause.WaitForNextTickAsync();
            }
        }
    }

    /// <summary>Runs a command, reads its result at once and returns it.</summary>
    public async Task<GuestResult> ExecAsync(string id, string code)
    {
        using var execution = await StartAsync(id, new GuestCommand { Code = code });
        return execution.Result;
    }

    /// <summary>Runs a command as a front end does.</summary>
    public Task<Execution> StartAsync(string id, GuestCommand command, CancellationToken cancellationToken = default) =>
        Sandboxes.GetFor(id, SandboxOperation.Exec).ExecAsync(command, cancellationToken);

    /// <summary>Adds a template, or replaces one. Its files hold only a line of text, and its disk is as long as a real one.</summary>
    public void AddTemplate(string name, Func<Template, Template>? change = null)
    {
        var directory = Directory.CreateDirectory(Path.Combine(Options.TemplatePath, name)).FullName;
        var template = new Template(name, $"key of {name}", Time.GetUtcNow(), 1, 256, "for tests")
        {
            Directory = directory,
            DiskMib = 2048,
        };
        template = change?.Invoke(template) ?? template;
        File.WriteAllText(Path.Combine(directory, "template.json"), JsonSerializer.Serialize(template, TemplateJson.Default.Template));
        template.Files.ToList().ForEach(f => File.WriteAllText(f, $"{Path.GetFileName(f)} of {name}"));
        SetLength(template.DiskPath, template.DiskMib);
    }

    private static void SetLength(string path, int mib)
    {
        using var file = File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.Write);
        RandomAccess.SetLength(file, mib * 1024L * 1024);
    }

    /// <summary>Stops the server and starts the next one. A killed server neither waits for commands nor ends a machine.</summary>
    /// <param name="isKilled">Whether the server is killed; otherwise it detaches.</param>
    /// <param name="meanwhile">Called while no server runs.</param>
    public async Task RestartAsync(bool isKilled, Action? meanwhile = null)
    {
        if (isKilled)
        {
            // AdoptionTests kill a server while it boots, with real VMs. A boot may begin while the links are cut.
            do
            {
                await UntilAsync(() => _engine.Pools.All.All(p => p.BootingCount == 0));
                _links.ToList().ForEach(l => l.Silence());
            }
            while (_engine.Pools.All.Any(p => p.BootingCount > 0));
            // The killed server learns nothing more about its machines, and can do nothing to them.
            Vmm.Machines.ToList().ForEach(m => m.Detach());
        }

        await _engine.StopAsync(keep: true, TimeSpan.Zero);
        _links.ToList().ForEach(l => l.Close());
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

    /// <summary>Stops the server, which keeps its microVMs or cleans them up.</summary>
    public Task StopAsync(bool keep) => _engine.StopAsync(keep, TimeSpan.Zero);

    /// <summary>Opens a server on the same directories, after the last one was stopped.</summary>
    public async Task<PandoraEngine> OpenAsync(bool mustRecover)
    {
        var engine = await PandoraEngine.OpenAsync(Options, Vmm, Metrics, Time, _loggers, CancellationToken.None, Host, _projects);
        _engine = engine;
        if (mustRecover)
        {
            await engine.RecoverAsync();
        }

        return engine;
    }

    /// <summary>The fake host of the node.</summary>
    public NodeHost Host => new()
    {
        OpenNetwork = Network.OpenAsync,
        CleanUpNetwork = Network.CleanUpAsync,
        OpenGuests = (_, _, _, _) => Task.FromResult(new GuestAccess("ssh-ed25519 of the tests", ConnectAsync)),
        FormatDisk = (path, sizeMib, _, _) =>
        {
            _formatted.Enqueue(sizeMib);
            SetLength(path, sizeMib);
            return Task.CompletedTask;
        },
        CgroupRoot = Path.Combine(_directory, "cgroup"),
        LockDirectory = Path.Combine(_directory, "locks"),
        ReadCapacity = () => _capacity,
        WatchTime = _hasWatches ? null : new FakeTimeProvider(),
    };

    public async ValueTask DisposeAsync()
    {
        await _engine.StopAsync(keep: false);
        Vmm.Dispose();
        await _services.DisposeAsync();
        Directory.Delete(_directory, recursive: true);
    }

    private FakeAgent AgentOf(string id) =>
        Agents!.GetOrAdd(id, _ => new FakeAgent(Time) { OnClockRead = times => RecordClockRead(id, times) });

    private void RecordClockRead(string id, int times)
    {
        if (times > 1)
        {
            _maintained.Enqueue(id);
        }
    }

    private async Task<IGuest> ConnectAsync(GuestLogin login, CancellationToken cancellationToken)
    {
        var id = Vmm.FindIn(Network.NamespaceOf(login.Address)) ?? throw new VmmException("no guest has this address");
        if (login.IsAdopted)
        {
            await Task.Delay(AdoptionTime, TimeProvider.System, cancellationToken);
            await Undecided.GetValueOrDefault(id, Task.CompletedTask).WaitAsync(cancellationToken);
            if (Silent.Contains(id))
            {
                throw new VmmException("its VMM no longer runs or does not answer");
            }
        }

        var guest = _guests.GetOrAdd(id, _ => new FakeGuest(Time));
        if (!login.IsAdopted)
        {
            _order.Enqueue(id);
        }

        var link = new FakeLink(guest);
        _links.Add(link);
        return link;
    }

    private sealed class Clock : IAsyncDisposable
    {
        private readonly PeriodicTimer _timer = new(TimeSpan.FromMilliseconds(1));
        private readonly Task _running;

        public Clock(FakeTimeProvider time, int speed) => _running = RunAsync(time, speed);

        public async ValueTask DisposeAsync()
        {
            _timer.Dispose();
            await _running;
        }

        private async Task RunAsync(FakeTimeProvider time, int speed)
        {
            // A machine that stood still must not make the clock leap.
            var (last, longest) = (Stopwatch.GetTimestamp(), TimeSpan.FromMilliseconds(5));
            while (await _timer.WaitForNextTickAsync())
            {
                var passed = Stopwatch.GetElapsedTime(last);
                last = Stopwatch.GetTimestamp();
                time.Advance((passed < longest ? passed : longest) * speed);
            }
        }
    }
}
