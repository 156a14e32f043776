using Pandora.Client;
using System.Net;
using Pandora.Load;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests;

/// <summary>Clients without a key open connections as fast as they can to a server with few descriptors.</summary>
public sealed class FloodTests(ITestOutputHelper output) : IAsyncLifetime
{
    private const string Key = "a-key-for-the-api-0123";
    private const int Descriptors = 1024;
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Theory]
    [InlineData(FloodKind.Silent, 30)]
    [InlineData(FloodKind.OneByte, 10)]
    [InlineData(FloodKind.WithoutKey, 10)]
    public async Task Clients_with_a_key_are_answered_while_others_flood_the_server(FloodKind kind, int seconds)
    {
        await using var server = await StartAsync();
        var pid = server.Pid;
        await using var before = await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromMinutes(5) });

        var report = await Flood(kind).RunAsync(TimeSpan.FromSeconds(seconds), cancellationToken: TestContext.Current.CancellationToken);
        output.WriteLine(Describe(kind, report));

        Assert.False(server.HasExited, server.Log);
        Assert.Empty(report.Failures);
        // Many times as many as the server has descriptors for.
        Assert.True(report.Opened > 5 * Descriptors, $"only {report.Opened} connections were opened");
        Assert.True(report.OnNew?.Count > 20 && report.OnKept?.Count > 20, $"{report}");
        Assert.Equal(0, (await before.ExecAsync("true")).ExitCode);
        await using var after = await server.Pandora.CreateAsync();
        Assert.Equal("hello\n", (await after.ExecAsync("echo hello")).Stdout);
        Assert.Equal(pid, server.Pid);
        Assert.InRange(Directory.GetFiles($"/proc/{pid}/fd").Length, 1, Descriptors / 2);
    }

    [Fact]
    public async Task A_server_that_runs_out_of_descriptors_survives_and_serves_again()
    {
        await using var server = await StartAsync();
        var (pid, idle) = (server.Pid, Directory.GetFiles($"/proc/{server.Pid}/fd").Length);
        // A cleanup that needs a descriptor may fail meanwhile, and is repeated later.
        server.AllowsFailedCleanup = true;
        var flood = Flood(FloodKind.OneByte).RunAsync(TimeSpan.FromSeconds(15), cancellationToken: TestContext.Current.CancellationToken);
        await Task.Delay(TimeSpan.FromSeconds(3), TimeProvider.System, TestContext.Current.CancellationToken);
        // Lowers the limit to just above the idle server's descriptors: the flood holds more connections than that already.
        await Command.RunAsync("prlimit", [$"--pid={pid}", $"--nofile={idle + 4}:"]);
        await Task.Delay(TimeSpan.FromSeconds(5), TimeProvider.System, TestContext.Current.CancellationToken);
        await Command.RunAsync("prlimit", [$"--pid={pid}", $"--nofile={Descriptors}:"]);
        var report = await flood;
        output.WriteLine(Describe(FloodKind.OneByte, report));

        Assert.False(server.HasExited, server.Log);
        await using var sandbox = await server.Pandora.CreateAsync();
        Assert.Equal("hello\n", (await sandbox.ExecAsync("echo hello")).Stdout);
        var again = await Flood(FloodKind.Silent)
            .RunAsync(TimeSpan.FromSeconds(5), cancellationToken: TestContext.Current.CancellationToken);
        Assert.Empty(again.Failures);
        Assert.Equal(pid, server.Pid);
    }

    private static string Describe(FloodKind kind, FloodReport report) =>
        $"{kind}: {report.Opened} opened in {report.Took.TotalSeconds:0.0} s; {report.Failures.Count} not answered; new "
            + $"{report.OnNew}; kept {report.OnKept}";

    private async Task<ServerProcess> StartAsync()
    {
        var settings = new Dictionary<string, string> { ["PANDORA_POOL_SIZE"] = "2", ["PANDORA_API_KEYS"] = Key };
        var server = await ServerProcess.StartAsync(_world, settings, preamble: $"ulimit -n {Descriptors};");
        await server.WaitForWarmAsync(2);
        return server;
    }

    private ConnectionFlood Flood(FloodKind kind) => new(new IPEndPoint(IPAddress.Loopback, 8000), Key, run: action => _world.Host.Run(() =>
    {
        action();
        return true;
    }))
    { Kind = kind };
}
