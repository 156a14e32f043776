using System.Diagnostics.Metrics;
using System.Net;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Pandora.Engine;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Engine.Observability;
using Pandora.Engine.Pool;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Templates;

namespace Pandora.Fakes;

/// <summary>A node whose microVMs are fakes: real pool, registry and reaper, fake time. Boots are let through one by one or at once.</summary>
internal sealed class FakeNode : IAsyncDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();
    private readonly SemaphoreSlim _boots;
    private readonly List<(FakeMachine Machine, FakeGuest Guest, MicroVm MicroVm)> _booted = [];
    private int _slot;

    public FakeNode(EngineOptions? options = null, bool bootsAreFree = true, ILoggerFactory? loggers = null)
    {
        Options = options ?? new EngineOptions { PoolSize = 2, MaxSandboxes = 5 };
        Metrics = new EngineMetrics(_services.GetRequiredService<IMeterFactory>());
        _boots = new SemaphoreSlim(bootsAreFree ? int.MaxValue : 0);
        Pool = new WarmPool(TemplateStore.DefaultName, Options.PoolSize, int.MaxValue, BootAsync, m => m.Teardown.CompleteAsync(), Metrics, Time, NullLogger.Instance);
        Sandboxes = new SandboxRegistry(
            Options, name => name == TemplateStore.DefaultName ? Pool : null, (m, e) => Egresses[m.Id] = e, Metrics, Time, loggers ?? NullLoggerFactory.Instance);
        Sandboxes.Open();
        _ = new EngineGauges(Metrics.Meter, Options, "tests", FakeServer.Tcg, Sandboxes, () => [Pool], () => (1024, Booted.Count(b => b.MicroVm.IsAlive)), () => (1.5, 1024));
    }

    public EngineOptions Options { get; }

    public FakeTimeProvider Time { get; } = new() { AutoAdvanceAmount = TimeSpan.Zero };

    public EngineMetrics Metrics { get; }

    public IMeterFactory Meters => _services.GetRequiredService<IMeterFactory>();

    public WarmPool Pool { get; }

    public SandboxRegistry Sandboxes { get; }

    public Dictionary<string, Egress> Egresses { get; } = [];

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

    public int BootAttempts { get; private set; }

    public Exception? BootFailure { get; set; }

    public string RecordOf(string id) => Path.Combine(_directory, id, "record.json");

    public void AllowBoots(int count) => _boots.Release(count);

    public FakeGuest GuestOf(string id) => Booted.Single(b => b.MicroVm.Id == id).Guest;

    public FakeMachine MachineOf(string id) => Booted.Single(b => b.MicroVm.Id == id).Machine;

    /// <summary>Lets the fake clock run, fifty times as fast as a real one, until the result is disposed: for what waits on it behind a request.</summary>
    public IAsyncDisposable RunClock() => new Clock(Time);

    /// <summary>Waits for what other tasks bring about; fails after ten real seconds.</summary>
    public static async Task UntilAsync(Func<bool> condition)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        while (!condition())
        {
            if (limit.IsCancellationRequested)
            {
                throw new TimeoutException("what was waited for did not come about");
            }

            await Task.Yield();
        }
    }

    public async ValueTask DisposeAsync()
    {
        await Task.WhenAll(Sandboxes.CloseAsync(), Pool.DisposeAsync().AsTask());
        await _services.DisposeAsync();
        Directory.Delete(_directory, recursive: true);
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
        var machine = new FakeMachine(id);
        var guest = new FakeGuest();
        var teardown = new Teardown(TimeProvider.System);
        teardown.Push(new HostResource(ResourceKind.Connection, $"machine {id}"), machine.DisposeAsync);
        var record = new MicroVmRecord { Id = id, Instance = "tests", BootId = MicroVmRecord.HostBootId, Template = "default", Slot = 0, Address = "", Uid = 0, HostKey = "", Resources = [] };
        var slot = new NetworkSlot(Interlocked.Increment(ref _slot), "ns", "if", IPAddress.Parse("10.200.0.1"), IPAddress.Parse("10.200.0.2"));
        var microVm = new MicroVm(record, Directory.CreateDirectory(Path.Combine(_directory, id)).FullName, slot, machine, guest, teardown);
        lock (_booted)
        {
            _booted.Add((machine, guest, microVm));
        }

        return microVm;
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
