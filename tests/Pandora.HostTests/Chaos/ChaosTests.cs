using System.Diagnostics;
using System.Text.Json;
using Pandora.HostTests.World;
using Pandora.TestHost;

namespace Pandora.HostTests.Chaos;

/// <summary>
/// Random faults happen while clients use the server, for 100 s, or with <c>./pandora test --chaos [MINUTES] [--seed N]</c> for longer. The
/// same seed repeats the order of the faults, not their timing.
/// </summary>
public sealed class ChaosTests(ITestOutputHelper output) : IAsyncLifetime
{
    private const int ClientCount = 4, PoolSize = 2;
    private TestWorld _world = null!;
    private SmallDisk? _disk;

    public async ValueTask InitializeAsync()
    {
        _world = await TestWorld.CreateAsync();
        try
        {
            // Small enough that a fault can fill it.
            _disk = await SmallDisk.CreateAsync("1G");
            _world.Listen(_world.Internet, TestWorld.InternetAddress, 7000);
        }
        catch
        {
            // The runner does not dispose a test whose set-up failed.
            await DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        try
        {
            if (_disk is not null)
            {
                await _disk.DisposeAsync();
            }
        }
        finally
        {
            await _world.DisposeAsync();
        }
    }

    [Fact]
    public async Task Under_random_faults_nothing_hangs_nothing_is_shared_nothing_runs_twice_and_nothing_leaks()
    {
        var duration = TimeSpan.FromSeconds(Read("PANDORA_TEST_CHAOS_SECONDS", 100));
        var seed = Read("PANDORA_TEST_SEED", Random.Shared.Next(1_000_000));
        output.WriteLine($"seed {seed}, {duration.TotalSeconds:0} s");
        await using var server = await ServerProcess.StartAsync(_world, new()
        {
            ["PANDORA_POOL_SIZE"] = $"{PoolSize}",
            ["PANDORA_MAX_SANDBOXES"] = "6",
            ["PANDORA_ACQUIRE_TIMEOUT"] = "20",
            ["PANDORA_BOOT_TIMEOUT"] = "30",
            ["PANDORA_LOG_FORMAT"] = "text",
            ["PANDORA_DISK_RESERVE"] = "64",
            ["PANDORA_DISK_SHARE"] = "0",
        }, _disk!.Directory);
        await LogFailureAsync(server, () => RunAsync(server, seed, duration));
    }

    private async Task RunAsync(ServerProcess server, int seed, TimeSpan duration)
    {
        var random = new Random(seed);
        var faults = new Faults(server, _world, _disk!.Directory, random);
        var clients = new Clients(server, new Answers(server, faults), seed, TimeProvider.System);
        using var stop = new CancellationTokenSource();
        var running = Enumerable.Range(0, ClientCount).Select(n => clients.RunAsync(n, stop.Token)).ToList();
        var start = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(start) < duration && clients.Violations.Count == 0)
        {
            await Task.Delay(TimeSpan.FromSeconds(1 + (random.NextDouble() * 4)), TimeProvider.System);
            var fault = faults.All[random.Next(faults.All.Count)];
            output.WriteLine($"{Stopwatch.GetElapsedTime(start).TotalSeconds,6:0.0} s {fault.Name}");
            await faults.DoAsync(fault);
            await faults.ReviveAsync();
            await clients.CheckUniqueAsync();
        }

        await stop.CancelAsync();
        await Task.WhenAll(running);
        output.WriteLine($"faults: {Describe(faults.Done)}");
        output.WriteLine($"requests: {Describe(clients.Outcomes)}");
        output.WriteLine($"violations: {clients.Violations.Count}");
        Assert.True(clients.Violations.Count == 0, $"seed {seed}:\n{string.Join('\n', clients.Violations)}");

        await server.WaitUntilReadyAsync();
        // Without faults the pool fills again, and sandboxes that no client deletes are reaped.
        await UntilAsync("the pool recovers", server, async () => (await server.Pandora.GetHealthAsync()).WarmMicroVms == PoolSize);
        await UntilAsync("every sandbox ends", server, async () => (await server.Pandora.GetHealthAsync()).ActiveSandboxes == 0);
        if (server.AllowsFailedCleanup)
        {
            // A cleanup that failed without descriptors leaks its resources. They are counted, and 'doctor --leaks --fix' must remove them.
            output.WriteLine($"leaked for lack of descriptors: {(await LeakedAsync(server, fix: false)).Count}");
            await LeakedAsync(server, fix: true);
        }

        await UntilAsync("every resource has an owner", server, async () => (await LeakedAsync(server, fix: false)).Count == 0);
        await using var last = await server.Pandora.CreateAsync();
        Assert.Equal(0, (await last.ExecAsync("true")).ExitCode);
    }

    private async Task<IReadOnlyList<JsonElement>> LeakedAsync(ServerProcess server, bool fix) =>
        [.. (await Audit.FindByProductAsync(server, _world, fix)).Where(r => r.GetProperty("owner").GetString() is null)];

    // Writes a failure at once: a failure of the audit when the server is disposed would replace it.
    private async Task LogFailureAsync(ServerProcess server, Func<Task> run)
    {
        try
        {
            await run();
        }
        catch (Exception e)
        {
            output.WriteLine($"{e.Message}\n{Tail(server.Log)}");
            throw;
        }
    }

    private static async Task UntilAsync(string name, ServerProcess server, Func<Task<bool>> condition)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(300), TimeProvider.System);
        while (!await condition())
        {
            Assert.False(limit.IsCancellationRequested, $"not in time: {name}\n{Tail(server.Log)}");
            await Task.Delay(TimeSpan.FromMilliseconds(300), TimeProvider.System);
        }
    }

    private static string Describe(IReadOnlyDictionary<string, int> counts) =>
        $"{counts.Values.Sum()} ({string.Join(", ", counts.OrderBy(c => c.Key).Select(c => $"{c.Key} {c.Value}"))})";

    private static string Tail(string log) => log.Length > 20_000 ? log[^20_000..] : log;

    private static int Read(string variable, int fallback) =>
        int.TryParse(Environment.GetEnvironmentVariable(variable), out var value) ? value : fallback;
}
