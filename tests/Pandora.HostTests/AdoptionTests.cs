using System.Net;
using System.Text.Json.Nodes;
using Pandora.Client;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests;

/// <summary>What a starting server recovers after its predecessor was killed, stopped or replaced.</summary>
public sealed class AdoptionTests : IAsyncLifetime
{
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task Sandboxes_and_warm_microVMs_outlive_a_killed_server()
    {
        using var internet = _world.Listen(_world.Internet, TestWorld.InternetAddress, 80);
        await using var server = await StartAsync();
        await server.WaitForSnapshotAsync();
        await server.WaitForWarmAsync(1);
        var online = await server.Pandora.CreateAsync(
            new CreateSandboxOptions
            {
                IdleTimeout = TimeSpan.FromSeconds(120),
                Metadata = new Dictionary<string, string> { ["who"] = "me" },
            });
        var offline = await server.Pandora.CreateAsync(new CreateSandboxOptions { Egress = "none" });
        await online.ExecAsync("echo kept > /root/file; sleep 1000 > /dev/null 2>&1 & echo $! > /root/pid");
        await server.WaitForWarmAsync(1);
        var pids = Pids(server);

        await server.KillAsync();
        Assert.Equal(pids, Pids(server));
        await server.StartAsync();
        Assert.Equal(pids, Pids(server));

        var info = Assert.Single(await server.Pandora.ListAsync(new Dictionary<string, string> { ["who"] = "me" }));
        Assert.Equal(
            (online.Id, TimeSpan.FromSeconds(120), online.Wire!.SlotId, online.Wire!.GuestIp),
            (info.Id, info.IdleTimeout, info.SlotId, info.GuestAddress));
        Assert.True(info.Age > info.Idle, "the idle clock starts again, the age does not");
        Assert.Equal("kept\nalive\n", (await online.ExecAsync("cat /root/file; kill -0 $(cat /root/pid) && echo alive")).Stdout);
        Assert.Equal(0, (await online.ExecAsync(Connect)).ExitCode);
        Assert.NotEqual(0, (await offline.ExecAsync(Connect)).ExitCode);
        for (var i = 0; i < 40; i++)
        {
            Assert.Equal($"{i}\n", (await online.ExecAsync($"echo {i}")).Stdout);
        }

        var warm = await server.Pandora.CreateAsync();
        Assert.True(warm.IsWarm);
        Assert.Equal(0, (await warm.ExecAsync(Connect)).ExitCode);
        Assert.All(new[] { await online.EndAsync(), await offline.EndAsync(), await warm.EndAsync() }, r => Assert.Equal(0, r.Remaining));
    }

    [Fact]
    public async Task A_command_that_ran_when_the_server_died_is_interrupted_runs_on_and_is_not_repeated()
    {
        await using var server = await StartAsync();
        var sandbox = await server.Pandora.CreateAsync();
        var running = sandbox.ExecAsync(
            "echo once >> /root/runs; sleep 300", new ExecOptions { Timeout = TimeSpan.FromSeconds(300) });
        await UntilAsync(async () => (await sandbox.ExecAsync("cat /root/runs")).ExitCode == 0);
        await server.KillAsync();
        await Assert.ThrowsAsync<ExecInterruptedException>(() => running);
        await server.StartAsync();
        Assert.Matches("^once\n[0-9]+\n$", (await sandbox.ExecAsync("cat /root/runs; pgrep -x sleep")).Stdout);
        var command = Assert.Single(await sandbox.Processes.ListAsync(), p => p.Command.EndsWith("sleep 300", StringComparison.Ordinal));
        Assert.Equal((true, null), (command.IsForeground, command.Result));
    }

    [Fact]
    public async Task Dead_microVMs_and_unreadable_records_are_cleaned_up_and_the_reason_is_reported()
    {
        await using var server = await StartAsync(poolSize: 0);
        var (lives, died, damaged, newer, recycled) = (
            await CreateAsync(server),
            await CreateAsync(server),
            await CreateAsync(server),
            await CreateAsync(server),
            await CreateAsync(server));
        await server.KillAsync();
        using (var process = ProcessHandle.TryOpen(PidOf(server, died.Id)))
        {
            process!.Kill();
            await process.Exited;
        }

        await File.WriteAllTextAsync(RecordOf(server, damaged.Id), (await File.ReadAllTextAsync(RecordOf(server, damaged.Id)))[..100]);
        Change(server, newer.Id, r => r["version"] = 99);
        Change(server, recycled.Id, r => r["vmm"]!["start_time"] = 1);
        await server.StartAsync();
        Assert.Equal(0, (await lives.ExecAsync("true")).ExitCode);
        foreach (
            var (sandbox, reason) in new[]
            {
                (died, "no longer runs"),
                (damaged, "record is damaged"),
                (newer, "record has version 99"),
                (recycled, "no longer runs"),
            })
        {
            var gone = await Assert.ThrowsAsync<SandboxGoneException>(() => sandbox.ExecAsync("true"));
            Assert.Contains("did not survive a restart", gone.Message);
            Assert.Contains(reason, gone.Message);
            Assert.Contains(reason, server.Log);
        }

        Assert.Single(Audit.Processes(server));
        Assert.Equal(lives.Id, Assert.Single(await server.Pandora.ListAsync()).Id);
    }

    [Theory]
    [InlineData(15, "keep", true)]
    [InlineData(15, "end", false)]
    [InlineData(10, "end", true)] // SIGUSR1: './pandora restart'
    [InlineData(12, "keep", false)] // SIGUSR2: './pandora down'
    [InlineData(2, "keep", false)]
    public async Task A_stop_detaches_or_ends_the_microVMs_as_signal_and_setting_say(int signal, string setting, bool keeps)
    {
        await using var server = await StartAsync(settings: new() { ["PANDORA_ON_STOP"] = setting });
        await server.WaitForWarmAsync(1);
        var sandbox = await server.Pandora.CreateAsync();
        await server.WaitForWarmAsync(1);
        // The server waits 10 s for commands of sandboxes that it keeps.
        var running = sandbox.ExecAsync(
            $"sleep {(keeps ? 4 : 300)}; echo done", new ExecOptions { Timeout = TimeSpan.FromSeconds(300) });
        await UntilAsync(async () => running.IsCompleted || (await sandbox.ExecAsync("pgrep -x sleep")).ExitCode == 0);
        server.Signal(signal);
        Assert.True(await server.WaitForEndAsync() == 0, server.Log);
        if (!keeps)
        {
            await Assert.ThrowsAnyAsync<PandoraApiException>(() => running);
            await Audit.AssertNothingRemainsAsync(server, _world);
            return;
        }

        Assert.Equal("done\n", (await running).Stdout);
        Assert.Equal(2, Audit.Processes(server).Count);
        await server.StartAsync();
        Assert.Equal(0, (await sandbox.ExecAsync("true")).ExitCode);
    }

    [Fact]
    public async Task A_create_that_is_sent_again_after_a_restart_gets_the_same_sandbox()
    {
        await using var server = await StartAsync();
        var first = await server.Pandora.CreateAsync(new CreateSandboxOptions { IdempotencyKey = "abc-1" });
        await server.KillAsync();
        await server.StartAsync();
        Assert.Equal(first.Id, (await server.Pandora.CreateAsync(new CreateSandboxOptions { IdempotencyKey = "abc-1" })).Id);
        var other = new CreateSandboxOptions { Egress = "none", IdempotencyKey = "abc-1" };
        var refused = await Assert.ThrowsAnyAsync<PandoraApiException>(() => server.Pandora.CreateAsync(other));
        Assert.Equal((int)HttpStatusCode.UnprocessableEntity, refused.Status);
    }

    [Fact]
    public async Task A_server_that_is_killed_repeatedly_while_it_boots_and_recovers_leaks_nothing()
    {
        await using var server = await StartAsync(poolSize: 3);
        for (var i = 0; i < 6; i++)
        {
            await server.KillAsync();
            await server.StartAsync(waitUntilReady: false);
            await Task.Delay(TimeSpan.FromMilliseconds(150 * (i + 1)), TimeProvider.System);
        }

        await server.WaitUntilReadyAsync();
        await server.WaitForWarmAsync(3);
        // The microVM that the snapshot is taken of ends when the snapshot is finished.
        await UntilAsync(() => Task.FromResult(Audit.Processes(server).Count == 3));
    }

    [Fact]
    public async Task A_dead_guest_does_not_delay_other_sandboxes()
    {
        await using var server = await StartAsync(poolSize: 0);
        var healthy = new[] { await CreateAsync(server), await CreateAsync(server) };
        var dead = await CreateAsync(server);
        await server.KillAsync();
        using var stopped = ProcessHandle.TryOpen(PidOf(server, dead.Id))!;
        stopped.Kill(19); // SIGSTOP: the VMM lives and answers nothing
        await server.StartAsync(waitUntilReady: false);
        await Task.WhenAll(healthy.Select(s => UntilAsync(async () => await TryAsync(s) == 0)));

        // Only the undecided sandbox waits, for 15 s: the healthy ones have answered, and the list still shows it as recovering. New
        // sandboxes are created meanwhile.
        Assert.Equal(
            ["recovering", "running", "running"], (await server.Pandora.ListAsync()).Select(s => s.State).Order(StringComparer.Ordinal));
        Assert.Contains("whether sandbox", (await Assert.ThrowsAsync<SandboxUnavailableException>(() => dead.ExecAsync("true"))).Message);
        Assert.Equal(0, (await (await CreateAsync(server)).ExecAsync("true")).ExitCode);
        await UntilAsync(async () =>
        {
            try
            {
                await server.Pandora.GetAsync(dead.Id);
                return false;
            }
            catch (SandboxGoneException)
            {
                return true;
            }
            catch (SandboxUnavailableException)
            {
                return false;
            }
        });
    }

    private const string Connect = $"timeout 20 bash -c 'exec 3<>/dev/tcp/{TestWorld.InternetAddress}/80'";

    private Task<ServerProcess> StartAsync(int poolSize = 1, Dictionary<string, string>? settings = null) =>
        ServerProcess.StartAsync(_world, new Dictionary<string, string>(settings ?? []) { ["PANDORA_POOL_SIZE"] = $"{poolSize}" });

    // The exit code of a command in the sandbox; null while the server does not serve the sandbox.
    private static async Task<int?> TryAsync(Sandbox sandbox)
    {
        try
        {
            return (await sandbox.ExecAsync("true")).ExitCode;
        }
        catch (Exception e) when (e is SandboxUnavailableException or ServerUnreachableException)
        {
            return null;
        }
    }

    private static async Task<Sandbox> CreateAsync(ServerProcess server) => await server.Pandora.CreateAsync();

    private static List<string> Pids(ServerProcess server) => [.. Audit.Processes(server).Order(StringComparer.Ordinal)];

    private static int PidOf(ServerProcess server, string id) =>
        int.Parse(File.ReadAllText(Path.Combine(server.RunDir, server.Instance, id, "vmm.pid")));

    private static string RecordOf(ServerProcess server, string id) => Path.Combine(server.RunDir, server.Instance, id, "record.json");

    private static void Change(ServerProcess server, string id, Action<JsonNode> change)
    {
        var record = JsonNode.Parse(File.ReadAllText(RecordOf(server, id)))!;
        change(record);
        File.WriteAllText(RecordOf(server, id), record.ToJsonString());
    }

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        while (!await condition())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, limit.Token);
        }
    }
}
