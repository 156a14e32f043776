using System.Diagnostics;
using System.Net;
using Pandora.Client;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>
/// The service as a whole: load, shutdown, networks, refusals to start. Each test starts a server, and the audit runs at its end.
/// </summary>
public sealed class ServiceTests : IAsyncLifetime
{
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task Twenty_sandboxes_are_served_by_a_pool_of_four()
    {
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "4" });
        using var gate = new SemaphoreSlim(6);
        var outputs = await Task.WhenAll(
            Enumerable
                .Range(0, 20)
                .Select(async i =>
                {
                    await gate.WaitAsync();
                    try
                    {
                        await using var sandbox = await server.Pandora.CreateAsync();
                        return (
                            await sandbox.ExecAsync(
                                $"echo {i} > /root/n; cat /root/n", new ExecOptions { Timeout = TimeSpan.FromSeconds(60) })).Stdout;
                    }
                    finally
                    {
                        gate.Release();
                    }
                }));
        Assert.Equal(Enumerable.Range(0, 20).Select(i => $"{i}\n"), outputs);
        Assert.Equal(0, (await server.Pandora.GetHealthAsync()).ActiveSandboxes);
    }

    [Fact]
    public async Task Shutdown_under_load_ends_everything_and_waits_for_no_command()
    {
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "4" });
        var execs = new List<Task>();
        for (var i = 0; i < 4; i++)
        {
            var sandbox = await server.Pandora.CreateAsync();
            execs.Add(sandbox.ExecAsync("sleep 300", new ExecOptions { Timeout = TimeSpan.FromSeconds(300) }));
        }

        await server.WaitForWarmAsync(3);
        var waiting = Enumerable.Range(0, 8).Select(_ => server.Pandora.CreateAsync()).ToList();
        var start = Stopwatch.GetTimestamp();
        Assert.Equal(0, await server.StopAsync());
        Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(60), $"{Stopwatch.GetElapsedTime(start)}");
        Assert.Empty(await Audit.FindAsync(server, _world));
        foreach (var task in execs)
        {
            await Assert.ThrowsAnyAsync<Exception>(() => task);
        }

        await ((Task)Task.WhenAll(waiting)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    [Fact]
    public async Task When_slots_run_out_clients_wait_and_the_refusal_says_why()
    {
        // A /29 has two slots.
        await using var server = await ServerProcess.StartAsync(
            _world,
            new()
            {
                ["PANDORA_POOL_SIZE"] = "1",
                ["PANDORA_NETWORK"] = "10.200.0.0/29",
                ["PANDORA_ACQUIRE_TIMEOUT"] = "8",
            });
        await server.WaitForWarmAsync(1);
        var first = await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        await server.WaitForWarmAsync(1);
        var second = await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        var refused = await Assert.ThrowsAsync<SandboxUnavailableException>(() => server.Pandora.CreateAsync());
        Assert.Contains("network slots", refused.Hint);
        await first.DisposeAsync();
        await using var third = await RetryAsync(() => server.Pandora.CreateAsync());
        Assert.Equal(first.Wire!.SlotId, third.Wire!.SlotId);
        Assert.Equal(0, (await third.ExecAsync("true")).ExitCode);
        await second.DisposeAsync();
    }

    [Fact]
    public async Task Sandboxes_reach_the_internet_from_a_host_whose_firewall_forwards_nothing()
    {
        await TestWorld.NftAsync(_world.Host.Path, """
            table ip filter {
              chain DOCKER-USER { }
              chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }
            }
            table inet other {
              chain forwards {
                type filter hook forward priority 10; policy accept;
                ct state established accept
                counter reject
              }
            }
            """);
        _world.Listen(_world.Internet, TestWorld.InternetAddress, 7000);
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1" });
        Assert.Contains("ip filter DOCKER-USER", server.Log);
        Assert.Contains("inet other forwards", server.Log);
        await using (var sandbox = await server.Pandora.CreateAsync())
        {
            const string Connect = "timeout 20 bash -c 'exec 3<> /dev/tcp/93.184.0.10/7000 && head -c 5 <&3'";
            Assert.Equal("hello", (await sandbox.ExecAsync(Connect)).Stdout);
            // The server's accept rule matched the packets, in both tables.
            const string Counted = "iifname \"pnd[a-z0-9]*v\\*\" counter packets [1-9]";
            Assert.Equal(2, System.Text.RegularExpressions.Regex.Count(await TestWorld.ListRulesAsync(_world.Host.Path), Counted));
            // Docker empties its chain when it restarts, and the server adds its accept rule again.
            await TestWorld.NftAsync(_world.Host.Path, "flush chain ip filter DOCKER-USER");
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
            while ((await sandbox.ExecAsync(Connect)).Stdout != "hello")
            {
                limit.Token.ThrowIfCancellationRequested();
            }
        }

        await server.StopAsync();
        Assert.DoesNotContain("pandora", await TestWorld.ListRulesAsync(_world.Host.Path));
    }

    [Fact]
    public async Task A_resolver_on_the_hosts_loopback_answers_guests()
    {
        await Pandora.Linux.Command.RunAsync("nsenter", [$"--net={_world.Host.Path}", "ip", "addr", "show", "lo"]);
        using var resolver = new DatagramListener(_world.Host, IPAddress.Parse("127.0.0.54"), 53, Resolver.Answer);
        _world.Listen(_world.Internet, TestWorld.InternetAddress, 7000);
        var directory = Directory.CreateTempSubdirectory("pandora-host-").FullName;
        try
        {
            await File.WriteAllTextAsync(Path.Combine(directory, "resolv.conf"), "nameserver 127.0.0.54\n");
            await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1" }, directory);
            await using var sandbox = await server.Pandora.CreateAsync();
            var result = await sandbox.ExecAsync("timeout 10 bash -c 'exec 3<> /dev/tcp/some.name.example/7000 && head -c 5 <&3'");
            Assert.True(result.Stdout == "hello", result.Stderr);
            Assert.NotEmpty(resolver.Senders);
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Fact]
    public async Task Another_address_range_is_chosen_when_a_route_overlaps()
    {
        await TestWorld.InAsync(_world.Host, "route add 10.200.7.0/24 via 93.183.0.1");
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1" });
        Assert.Contains("10.201.0.0/16", server.Log);
        await using var sandbox = await server.Pandora.CreateAsync();
        Assert.StartsWith("10.201.", sandbox.Wire!.GuestIp);
    }

    [Fact]
    public async Task A_second_server_on_the_directory_and_a_used_port_are_refused_and_leak_nothing()
    {
        await using var first = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1" });
        var log = Path.Combine(first.DataDir, "log");
        await using (
            var second = await ServerProcess.StartAsync(
                _world,
                new() { ["PANDORA_LISTEN"] = "http://127.0.0.1:8001" },
                first.DataDir,
                waitUntilReady: false))
        {
            Assert.Equal(1, await second.WaitForEndAsync());
            Assert.Contains($"another Pandora server (pid {first.Pid})", File.ReadAllText(log));
            second.SkipAudit();
        }

        await using var third = await ServerProcess.StartAsync(
            _world, new() { ["PANDORA_POOL_SIZE"] = "1", ["PANDORA_NETWORK"] = "10.210.0.0/16" }, waitUntilReady: false);
        Assert.Equal(1, await third.WaitForEndAsync());
        Assert.Contains("is taken by another program", third.Log);
        Assert.Empty(await Audit.FindAsync(third, _world));
        // The audit would report the first server's resources.
        third.SkipAudit();
        await using var sandbox = await first.Pandora.CreateAsync();
        Assert.Equal(0, (await sandbox.ExecAsync("true")).ExitCode);
    }

    [Theory]
    [InlineData("PANDORA_DATA_DIR", "/proc/nothing", "cannot write to one of its directories")]
    [InlineData("PANDORA_TEMPLATE_DIR", "/tmp/no-such-templates", "./pandora template build")]
    [InlineData("PANDORA_MAX_IDLE_TIMEOUT", "30", "PANDORA_IDLE_TIMEOUT")]
    [InlineData("PANDORA_POOL_SIZE", "four", "a whole number")]
    [InlineData("PANDORA_NETWORK", "93.183.0.0/24", "overlaps a route")]
    [InlineData("PANDORA_ACCEL", "kvm", "PANDORA_ACCEL=auto")]
    [InlineData("PANDORA_LISTEN", "http://0.0.0.0:8000", "pandora key create")]
    [InlineData("PANDORA_POOL", "4", "is not a setting")]
    public async Task A_failed_start_says_in_one_sentence_what_to_do(string name, string value, string words)
    {
        Assert.SkipWhen(name == "PANDORA_ACCEL" && IsKvmUsable(), "KVM is usable on this host, so it is not refused");
        await using var server = await ServerProcess.StartAsync(
            _world,
            new()
            {
                ["PANDORA_VMM"] = "qemu",
                ["PANDORA_ACCEL"] = "auto",
                [name] = value,
            },
            waitUntilReady: false);
        Assert.Equal(1, await server.WaitForEndAsync());
        Assert.Contains(words, server.Log);
        Assert.DoesNotContain("   at ", server.Log);
    }

    private static bool IsKvmUsable() =>
        File.Exists("/dev/kvm")
        && File.ReadLines("/proc/cpuinfo")
            .Any(l => l.StartsWith("flags", StringComparison.Ordinal) && (l.Contains(" vmx") || l.Contains(" svm ")));

    private static async Task<Sandbox> RetryAsync(Func<Task<Sandbox>> action)
    {
        for (var i = 0; ; i++)
        {
            try
            {
                return await action();
            }
            catch (SandboxUnavailableException) when (i < 15)
            {
                // The pool repeats the boot that found no free slot after a pause.
            }
        }
    }
}
