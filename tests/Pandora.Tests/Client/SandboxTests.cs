using System.Runtime.CompilerServices;
using System.Text;
using Pandora.Client;
using Pandora.Fakes;

namespace Pandora.Tests.Client;

/// <summary>How long a sandbox lives in the hands of the client, on the real API.</summary>
public sealed class SandboxTests
{
    private static readonly CreateSandboxOptions TenSeconds = new() { IdleTimeout = TimeSpan.FromSeconds(10) };

    [Fact]
    public async Task It_is_kept_alive_until_it_is_disposed()
    {
        await using var api = await FakeServer.StartAsync();
        using var calls = new Calls(api);
        using var http = new HttpClient(calls) { BaseAddress = new Uri("http://127.0.0.1:8000") };
        using var pandora = new PandoraClient(http, new PandoraClientOptions { TimeProvider = api.Node.Time });
        await using (var sandbox = await pandora.CreateAsync(TenSeconds))
        {
            for (var i = 1; i <= 20; i++)
            {
                await PassIntervalAsync(api, () => calls.Ended == i);
            }

            Assert.Equal(sandbox.Id, Assert.Single(await pandora.ListAsync()).Id);
        }

        Assert.Empty(await pandora.ListAsync());
    }

    [Fact]
    public async Task It_is_kept_alive_over_calls_that_fail_or_hang()
    {
        await using var api = await FakeServer.StartAsync();
        using var calls = new Calls(api) { HasFaults = true };
        using var http = new HttpClient(calls) { BaseAddress = new Uri("http://127.0.0.1:8000"), Timeout = Timeout.InfiniteTimeSpan };
        using var pandora = new PandoraClient(http, new PandoraClientOptions { TimeProvider = api.Node.Time });
        await using var sandbox = await pandora.CreateAsync(TenSeconds);
        for (var i = 0; i < 5; i++)
        {
            var ended = calls.Ended;
            await PassIntervalAsync(api, () => calls.Ended == ended + 1);
            await PassIntervalAsync(api, () => calls.IsHanging);
            // The call that hangs ends after an interval, and the next one reaches the server.
            await PassIntervalAsync(api, () => calls.Ended == ended + 3);
            Assert.Equal(sandbox.Id, (await sandbox.GetAsync()).Id);
        }
    }

    [Fact]
    public async Task Without_keeping_alive_it_ends_when_idle()
    {
        await using var api = await FakeServer.StartAsync();
        using var pandora = new PandoraClient(
            api.Http, new PandoraClientOptions { TimeProvider = api.Node.Time, KeepAlive = false });
        await using var sandbox = await pandora.CreateAsync(TenSeconds);
        await PassAsync(api, seconds: 30);
        await Assert.ThrowsAsync<SandboxNotFoundException>(() => sandbox.GetAsync());
    }

    [Fact]
    public async Task A_detached_one_outlives_its_object_and_ends_when_idle()
    {
        await using var api = await FakeServer.StartAsync();
        using var pandora = new PandoraClient(api.Http, new PandoraClientOptions { TimeProvider = api.Node.Time });
        string id;
        await using (var sandbox = await pandora.CreateAsync(TenSeconds))
        {
            sandbox.Detach();
            id = sandbox.Id;
        }

        Assert.Equal(id, (await pandora.GetAsync(id)).Id);
        await PassAsync(api, seconds: 30);
        await Assert.ThrowsAsync<SandboxNotFoundException>(() => pandora.GetAsync(id));
    }

    [Fact]
    public async Task One_that_the_program_lost_ends_when_idle()
    {
        await using var api = await FakeServer.StartAsync();
        using var pandora = new PandoraClient(api.Http, new PandoraClientOptions { TimeProvider = api.Node.Time });
        var id = await LoseOneAsync(pandora);
        // A request of keeping alive that was under way held it, until it was answered.
        for (var i = 0; i < 10 && (await pandora.ListAsync()).Count > 0; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            await PassAsync(api, seconds: 12);
        }

        await Assert.ThrowsAsync<SandboxNotFoundException>(() => pandora.GetAsync(id));
    }

    [Fact]
    public async Task One_that_is_known_by_its_id_is_used_and_not_ended()
    {
        await using var api = await FakeServer.StartAsync();
        using var pandora = new PandoraClient(api.Http, new PandoraClientOptions { TimeProvider = api.Node.Time });
        await using var created = await pandora.CreateAsync();
        await using (var connected = pandora.Connect(created.Id))
        {
            Assert.Equal(7, (await connected.ExecAsync("exit 7")).ExitCode);
            Assert.Equal(1, (await connected.GetAsync()).ExecCount);
            Assert.Null(connected.AcquireTime);
        }

        Assert.Equal("running", (await created.GetAsync()).State);
    }

    [Fact]
    public async Task Ended_twice_it_says_so_and_disposes_without_a_word()
    {
        await using var api = await FakeServer.StartAsync();
        using var pandora = new PandoraClient(api.Http);
        await using var sandbox = await pandora.CreateAsync();
        var receipt = await sandbox.EndAsync();
        Assert.Equal((sandbox.Id, "deleted", 0), (receipt.SandboxId, receipt.Reason, receipt.Remaining));
        await Assert.ThrowsAsync<SandboxNotFoundException>(() => sandbox.EndAsync());
    }

    [Fact]
    public async Task The_options_reach_the_server()
    {
        await using var api = await FakeServer.StartAsync();
        using var pandora = new PandoraClient(api.Http, new PandoraClientOptions { TimeProvider = api.Node.Time });
        var options = new CreateSandboxOptions
        {
            IdleTimeout = TimeSpan.FromSeconds(90),
            Egress = "none",
            Metadata = new Dictionary<string, string> { ["job"] = "7" },
            IdempotencyKey = "once",
            KeepAlive = false,
        };
        await using var sandbox = await pandora.CreateAsync(options);
        var details = await sandbox.GetAsync();
        Assert.Equal(
            (sandbox.Id, TimeSpan.FromSeconds(90), "none", "7"),
            (details.Id, details.IdleTimeout, details.Egress, details.Metadata["job"]));
        Assert.Equal(sandbox.Id, (await pandora.CreateAsync(options)).Id);
        var refused = await Assert.ThrowsAsync<InvalidRequestException>(() =>
            sandbox.ExecAsync("true", new ExecOptions { Timeout = TimeSpan.FromHours(25) }));
        Assert.Equal(["timeout"], refused.Errors.Keys);
    }

    [Theory]
    [InlineData(new byte[] { })]
    [InlineData(new byte[] { 0, 1, 0xFF, 0xC3, 0x28, 0x0A })]
    public async Task Bytes_go_in_and_come_out_unchanged(byte[] bytes)
    {
        await using var api = await FakeServer.StartAsync();
        using var pandora = new PandoraClient(api.Http, new PandoraClientOptions { TimeProvider = api.Node.Time });
        await using var sandbox = await pandora.CreateAsync();
        var result = await sandbox.ExecAsync("cat", new ExecOptions { StdinBytes = bytes, BinaryOutput = true });
        Assert.Equal(bytes, result.StdoutBytes!.Value.ToArray());
        Assert.Equal((Encoding.UTF8.GetString(bytes), "", 0, false),
            (result.Stdout, result.Stderr, result.StderrBytes!.Value.Length, result.IsLossy));
        var text = await sandbox.ExecAsync("cat", new ExecOptions { StdinBytes = bytes });
        Assert.Equal((Encoding.UTF8.GetString(bytes), null, bytes.Length > 0), (text.Stdout, text.StdoutBytes, text.IsLossy));
    }

    [Fact]
    public async Task The_flags_of_an_answer_and_of_a_timeout_are_there()
    {
        await using var api = await FakeServer.StartAsync();
        using var pandora = new PandoraClient(api.Http, new PandoraClientOptions { TimeProvider = api.Node.Time });
        await using var sandbox = await pandora.CreateAsync();
        var plain = await sandbox.ExecAsync("exit 0");
        Assert.Equal(
            (false, false, false, null), (plain.IsTruncated, plain.IsLossy, plain.IsOutOfMemory, plain.MemoryLimit));
        var killed = await sandbox.ExecAsync("oom 536870912");
        Assert.Equal((true, 536870912), (killed.IsOutOfMemory, killed.MemoryLimit));
        var merged = await sandbox.ExecAsync("both", new ExecOptions { MergeOutputs = true });
        Assert.Equal(("out\nerr\n", ""), (merged.Stdout, merged.Stderr));

        var timeout = await Assert.ThrowsAsync<ExecTimeoutException>(() => sandbox.ExecAsync("timeout-with-all"));
        Assert.Equal(("a\uFFFD", null, true, true, true, 1024),
            (timeout.Stdout, timeout.StdoutBytes, timeout.IsTruncated, timeout.IsLossy, timeout.IsOutOfMemory, timeout.MemoryLimit));
        timeout = await Assert.ThrowsAsync<ExecTimeoutException>(
            () => sandbox.ExecAsync("timeout-with-all", new ExecOptions { BinaryOutput = true }));
        Assert.Equal([0x61, 0xFF], timeout.StdoutBytes!.Value.ToArray());
        Assert.Equal(("a\uFFFD", "and so wrong", false), (timeout.Stdout, timeout.Stderr, timeout.IsLossy));
    }

    [Fact]
    public async Task Two_inputs_are_a_mistake_of_the_program()
    {
        await using var api = await FakeServer.StartAsync();
        using var pandora = new PandoraClient(api.Http, new PandoraClientOptions { TimeProvider = api.Node.Time });
        await using var sandbox = await pandora.CreateAsync();
        await Assert.ThrowsAsync<ArgumentException>(
            () => sandbox.ExecAsync("cat", new ExecOptions { Stdin = "a", StdinBytes = new byte[] { 1 } }));
    }

    // Counts the calls that keep a sandbox alive. With faults, of each three one fails, one hangs, and one reaches the server.
    private sealed class Calls(FakeServer api) : HttpMessageHandler
    {
        private int _begun, _ended;

        public bool HasFaults { get; init; }

        public int Ended => Volatile.Read(ref _ended);

        public bool IsHanging { get; private set; }

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            var isKeepAlive = request.RequestUri!.AbsolutePath.EndsWith("/keepalive", StringComparison.Ordinal);
            try
            {
                if (isKeepAlive && HasFaults)
                {
                    await FailAsync(_begun++ % 3, cancellationToken);
                }

                using var copy = new HttpRequestMessage(request.Method, request.RequestUri.PathAndQuery) { Content = request.Content };
                return await api.Http.SendAsync(copy, cancellationToken);
            }
            finally
            {
                IsHanging = false;
                Interlocked.Add(ref _ended, isKeepAlive ? 1 : 0);
            }
        }

        private async Task FailAsync(int turn, CancellationToken cancellationToken)
        {
            if (turn == 0)
            {
                throw new InvalidOperationException("a handler of the program's");
            }

            if (turn == 1)
            {
                IsHanging = true;
                await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, cancellationToken);
            }
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static async Task<string> LoseOneAsync(PandoraClient pandora) => (await pandora.CreateAsync(TenSeconds)).Id;

    // A quarter of the idle time, until the client's call is where it should be: the clock never runs ahead of the client.
    private static async Task PassIntervalAsync(FakeServer api, Func<bool> condition)
    {
        api.Node.Time.Advance(TimeSpan.FromSeconds(2.5));
        await FakeNode.UntilAsync(condition);
        await api.Node.Sandboxes.ReapAsync();
    }

    // In steps, with the client's requests in between.
    private static async Task PassAsync(FakeServer api, int seconds)
    {
        for (var i = 0; i < seconds; i++)
        {
            api.Node.Time.Advance(TimeSpan.FromSeconds(1));
            await api.Node.Sandboxes.ReapAsync();
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System);
        }
    }
}
