using System.Collections.Concurrent;
using System.Text.Json;
using Pandora.Client;
using Pandora.Engine;
using Pandora.Fakes;
using Pandora.Load;
using Pandora.Tests.Telemetry;

namespace Pandora.Tests.Load;

[Collection(nameof(Alone))]
public sealed class LoadRunTests
{
    [Theory]
    [InlineData(null, null, null, 6)]
    [InlineData(200.0, null, null, 6)]
    [InlineData(null, null, 3, 6)]
    [InlineData(200.0, null, 3, 6)]
    [InlineData(20.0, 0.35, null, 7)]
    public async Task A_load_makes_the_planned_sandboxes_and_leaks_none(double? rate, double? duration, int? burst, int expected)
    {
        await using var server = await FakeServer.StartAsync(options: new EngineOptions { PoolSize = 4, MaxSandboxes = 50 });
        using var pandora = new PandoraClient(server.Http);
        var lines = new ConcurrentBag<LoadedSandbox>();
        var plan = new LoadPlan
        {
            Requests = 6,
            Parallel = 2,
            ExecsPer = 3,
            Code = "exit 0",
            Rate = rate,
            Duration = duration,
            Burst = burst,
        };
        var report = await new LoadRun(pandora, "http://fake", plan, TimeProvider.System) { Finished = lines.Add }.RunAsync(
            CancellationToken.None);
        Assert.Equal((expected, 0, false), (report.Succeeded, report.Failed, report.IsInterrupted));
        Assert.Equal(expected, lines.Count);
        Assert.Equal(Enumerable.Range(1, expected), lines.Select(l => l.Number).Order());
        Assert.Equal(expected * 3, report.Execs);
        Assert.Equal(
            [expected, expected, expected * 2, expected],
            new[] { "acquire", "first_exec", "exec", "delete" }.Select(n => (int)report.Latency[n].Client!.Count));
        Assert.All(
            new[] { "acquire", "first_exec", "exec", "delete" },
            n => Assert.Equal(report.Latency[n].Client!.Count, report.Latency[n].Server!.Count));
        Assert.Equal(new LeakReport(0, 0, 0, 0), report.Leaks);
        Assert.Equal(0, server.Node.Sandboxes.Count);
        var copy = JsonSerializer.Deserialize(JsonSerializer.Serialize(report, LoadJson.Default.LoadReport), LoadJson.Default.LoadReport)!;
        Assert.Equal(
            (report.Plan, report.Machine, report.Server, report.WallSeconds), (copy.Plan, copy.Machine, copy.Server, copy.WallSeconds));
        Assert.Equal(report.Latency["exec"], copy.Latency["exec"]);
    }

    [Fact]
    public async Task A_duration_ends_a_closed_loop()
    {
        await using var server = await FakeServer.StartAsync();
        using var pandora = new PandoraClient(server.Http);
        var time = new CountingTime();
        var load = new LoadRun(
            pandora,
            "http://fake",
            new LoadPlan
            {
                Duration = 0.2,
                Parallel = 2,
                Code = "exit 0",
            },
            time)
        {
            BeforeEach = _ =>
            {
                time.Advance(TimeSpan.FromMilliseconds(50));
                return Task.CompletedTask;
            },
        };
        var report = await EndAsync(load.RunAsync(CancellationToken.None), time);
        // Both may begin one before the fourth has made the time be over.
        Assert.InRange(report.Succeeded, 4, 5);
        Assert.InRange(report.WallSeconds, 0.2, 0.25);
    }

    [Fact]
    public async Task Waiting_is_counted_from_the_time_a_sandbox_was_due()
    {
        await using var server = await FakeServer.StartAsync(options: new EngineOptions { PoolSize = 10, MaxSandboxes = 50 });
        // Claims pass one at a time and take 30 ms each, as on a server that stalls. The load itself is late, too: nine of its ten claims
        // are sent after 50 ms, when they were due after 1 to 9 ms. The last one waits for the other nine.
        var time = new CountingTime();
        using var oneAtATime = new OneAtATime(server.Http, time);
        using var slow = new HttpClient(oneAtATime) { BaseAddress = server.Http.BaseAddress };
        using var pandora = new PandoraClient(slow);
        var running = new LoadRun(
            pandora,
            "http://fake",
            new LoadPlan
            {
                Requests = 10,
                Rate = 1000,
                ExecsPer = 0,
            },
            time
        ).RunAsync(CancellationToken.None);
        await FakeNode.UntilAsync(() => oneAtATime.Came == 1 && time.TimersOf(TimeSpan.FromMilliseconds(1)) == 1);
        time.Advance(TimeSpan.FromMilliseconds(50));
        await FakeNode.UntilAsync(() => oneAtATime.Came == 10);
        oneAtATime.Begin();
        var report = await EndAsync(running, time);
        Assert.Equal(10, report.Succeeded);
        Assert.Equal(10, report.Latency["acquire"].Server!.Count);
        // The last of the ten is one of the nine.
        Assert.InRange(report.Latency["acquire"].Client!.Max, 341, 349);
    }

    [Fact]
    public async Task Failures_of_a_load_are_counted_by_operation_and_code()
    {
        await using var server = await FakeServer.StartAsync(options: new EngineOptions { PoolSize = 4, MaxSandboxes = 2 });
        await using var clock = server.Node.RunClock();
        using var pandora = new PandoraClient(server.Http);
        var failing = await new LoadRun(
            pandora,
            "",
            new LoadPlan
            {
                Requests = 2,
                Parallel = 1,
                ExecsPer = 2,
                Code = "exit 3",
            },
            TimeProvider.System).RunAsync(CancellationToken.None);
        Assert.Equal((0, 2), (failing.Succeeded, failing.Failed));
        Assert.Equal(4, failing.Errors["exec.exit_code"]);
        var broken = await new LoadRun(
            pandora,
            "",
            new LoadPlan
            {
                Requests = 2,
                Parallel = 1,
                Code = "break",
            },
            TimeProvider.System).RunAsync(CancellationToken.None);
        Assert.Equal(2, broken.Errors["exec.guest_unreachable"]);
        var timedOut = await new LoadRun(pandora, "", new LoadPlan { Requests = 1, Code = "timeout" }, TimeProvider.System).RunAsync(
            CancellationToken.None);
        Assert.Equal(1, timedOut.Errors["exec.exec_timeout"]);
        await using var one = await pandora.CreateAsync();
        await using var two = await pandora.CreateAsync();
        var refused = await new LoadRun(pandora, "", new LoadPlan { Requests = 3 }, TimeProvider.System).RunAsync(CancellationToken.None);
        Assert.Equal(3, refused.Errors["create.sandbox_limit"]);
        Assert.Equal(3, refused.Latency["acquire"].Client!.Count);
        Assert.True(refused.Leaks.IsClean);
    }

    [Fact]
    public async Task An_interrupted_load_deletes_its_sandboxes()
    {
        await using var server = await FakeServer.StartAsync();
        using var pandora = new PandoraClient(server.Http);
        using var interrupt = new CancellationTokenSource();
        var running = new LoadRun(
            pandora,
            "",
            new LoadPlan
            {
                Requests = 100,
                Parallel = 2,
                Code = "hang",
            },
            TimeProvider.System).RunAsync(interrupt.Token);
        await FakeNode.UntilAsync(() => server.Node.Booted.Count(b => b.Guest.Hanging.Task.IsCompleted) == 2);
        await interrupt.CancelAsync();
        var report = await running;
        Assert.True(report.IsInterrupted);
        Assert.Equal((0, 2), (report.Succeeded, report.Failed));
        Assert.Equal(2, report.Errors["exec.interrupted"]);
        Assert.Equal(0, server.Node.Sandboxes.Count);
    }

    [Fact]
    public async Task Without_metrics_the_leak_check_says_so()
    {
        await using var server = await FakeServer.StartAsync(new Server.Hosting.ServerOptions { MetricsKey = "a-key-for-metrics-0123" });
        using var pandora = new PandoraClient(server.Http);
        var report = await new LoadRun(pandora, "", new LoadPlan { Requests = 1, Code = "exit 0" }, TimeProvider.System).RunAsync(
            CancellationToken.None);
        Assert.True(report.Leaks is { Sandboxes: 0, Slots: null, TeardownErrors: null, IsClean: true });
        Assert.Contains("/metrics cannot be read", report.Leaks.Note);
    }

    [Theory]
    [InlineData("a 1\na{x=\"y}\"} 2 1700000000\nab 5\n# a 9\n", 3.0)]
    [InlineData("b 1\n", null)]
    public void A_metric_is_summed_over_its_labels(string text, double? sum) => Assert.Equal(sum, LeakCheck.Sum(text, "a"));

    // The clock stands still, but for the pauses in which the load waits for what the server frees after its answers.
    private static async Task<LoadReport> EndAsync(Task<LoadReport> running, CountingTime time)
    {
        var (pause, passed) = (TimeSpan.FromMilliseconds(200), 0);
        await FakeNode.UntilAsync(() =>
        {
            for (; passed < time.TimersOf(pause); passed++)
            {
                time.Advance(pause);
            }

            return running.IsCompleted;
        });
        return await running;
    }

    private sealed class OneAtATime(HttpClient server, CountingTime time) : HttpMessageHandler
    {
        private readonly SemaphoreSlim _turn = new(0);
        private int _came;

        /// <summary>Claims that have come.</summary>
        public int Came => Volatile.Read(ref _came);

        /// <summary>Lets the claims pass, the first one first.</summary>
        public void Begin() => _turn.Release();

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            using var copy = new HttpRequestMessage(request.Method, request.RequestUri) { Content = request.Content };
            if (request.Method != HttpMethod.Post)
            {
                return await server.SendAsync(copy, cancellationToken);
            }

            var turn = _turn.WaitAsync(cancellationToken);
            Interlocked.Increment(ref _came);
            await turn;
            try
            {
                time.Advance(TimeSpan.FromMilliseconds(30));
                return await server.SendAsync(copy, cancellationToken);
            }
            finally
            {
                _turn.Release();
            }
        }
    }
}
