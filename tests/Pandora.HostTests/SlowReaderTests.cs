using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.TestHost;
using Pandora.Server.Hosting;

namespace Pandora.HostTests;

/// <summary>A sandbox runs as many commands as it may, and their clients read the results very slowly.</summary>
public sealed class SlowReaderTests(SlowReaderFixture fixture) : IClassFixture<SlowReaderFixture>
{
    private const int Readers = SlowReaderFixture.MaxExecs, ResultBytes = 10 * 1024 * 1024;

    // MiB that the server may use more after the test than before.
    private const double Margin = 40;

    private ServerProcess Server => fixture.Server;

    [Fact]
    public async Task Results_that_are_read_slowly_count_as_running_are_cut_off_and_release_their_memory()
    {
        await using var sandbox = await Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(900) });
        await using var neighbour = await Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(900) });
        await sandbox.ExecAsync($"head -c {ResultBytes} /dev/zero | tr '\\0' a > /root/result");
        Assert.Equal(
            ResultBytes,
            (await sandbox.ExecAsync("cat /root/result", new ExecOptions { Timeout = TimeSpan.FromSeconds(100) })).Stdout.Length);
        await UntilAsync(() => ResidentMiB() < 220, TimeSpan.FromSeconds(90));
        var before = ResidentMiB();
        var paused = await PausedAsync();
        using var stop = new CancellationTokenSource(TimeSpan.FromMinutes(5), TimeProvider.System);
        var first = new TaskCompletionSource[Readers];
        var start = Stopwatch.GetTimestamp();
        var readers = Enumerable.Range(0, Readers).Select(i => ReadAsync(sandbox.Id, first[i] = new TaskCompletionSource(), stop.Token))
            .ToList();
        var most = 0.0;
        var all = Task.WhenAll(first.Select(f => f.Task));
        // A command counts as running until its result is read or cut off.
        while (!all.IsCompleted)
        {
            most = Math.Max(most, ResidentMiB());
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System);
        }

        var allBegan = Stopwatch.GetElapsedTime(start);
        Assert.Equal(ErrorCodes.TooManyExecs.Code, (await Assert.ThrowsAsync<PandoraApiException>(() => sandbox.ExecAsync("true"))).Code);
        Assert.Equal(TimeSpan.Zero, (await Server.Pandora.GetAsync(sandbox.Id)).Idle);
        Assert.Equal(0, (await neighbour.ExecAsync("true")).ExitCode);
        // The server logs each cut. A client sees it only after it has read the bytes that its own kernel buffers.
        var freed = TimeSpan.Zero;
        int Cut() => Server.Log.Split("did not reach its client").Length - 1;
        while (Cut() < Readers && Stopwatch.GetElapsedTime(start) - allBegan < TimeSpan.FromSeconds(150))
        {
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
        }

        freed = Stopwatch.GetElapsedTime(start) - allBegan;
        Assert.True(Cut() == Readers, $"{Cut()} were cut off:\n{Server.Log[^Math.Min(Server.Log.Length, 8000)..]}");
        var returning = Stopwatch.GetTimestamp();
        while (ResidentMiB() > before + Margin && Stopwatch.GetElapsedTime(returning) < TimeSpan.FromSeconds(120))
        {
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
        }

        var after = ResidentMiB();
        Assert.True(after <= before + Margin, $"RSS {before:0} MiB before, {most:0} at most, {after:0} after");
        Assert.Equal(0, (await sandbox.ExecAsync("true")).ExitCode);
        await stop.CancelAsync();
        var cut = await Task.WhenAll(readers);
        Assert.All(cut, c => Assert.True(c.Bytes < ResultBytes / 10, $"the client got {c.Bytes} bytes"));
        TestContext.Current.TestOutputHelper!.WriteLine(
            $"RSS {before:0} MiB before, {most:0} at most, {after:0} after {Stopwatch.GetElapsedTime(returning).TotalSeconds:0} s; GC "
                + $"paused {await PausedAsync() - paused:0.00} s; all results began to be read within {allBegan.TotalSeconds:0} s, and "
                + $"all were cut off {freed.TotalSeconds:0} s later");
        Assert.True(most < before + (Readers * ResultBytes / 1048576) + 150, $"{most} MiB at most, {before} before");
        Assert.Matches(@"pandora_failures_total\{[^}]*code=""not_delivered""[^}]*\} [1-9]", await Server.Pandora.GetMetricsAsync());
        // The sandbox still works.
        Assert.Equal("10485760\n", (await sandbox.ExecAsync("wc -c < /root/result")).Stdout);
    }

    // Both run at once, because they wait for most of the time.
    [Fact]
    public Task Readers_that_are_moderately_slow_or_late_get_the_whole_result() => Task.WhenAll(ReadInBurstsAsync(), ReadLateAsync());

    private async Task ReadInBurstsAsync()
    {
        await using var sandbox = await Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(900) });
        await sandbox.ExecAsync("head -c 2000000 /dev/zero | tr '\\0' b > /root/result");
        // 150 KiB/s, well over the 64 KiB/s that the server requires, in large reads with pauses between them.
        var (bytes, after) = await ReadAsync(sandbox.Id, new TaskCompletionSource(), CancellationToken.None, 150 * 1024);
        Assert.True(bytes > 2_000_000 && after > TimeSpan.FromSeconds(8), $"{bytes} bytes in {after}");
    }

    // The server keeps small answers for a client that begins to read late.
    private async Task ReadLateAsync()
    {
        await using var sandbox = await Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(900) });
        const string Body = """{"code": "echo small"}""";
        var answers = await Task.WhenAll(
            LateAsync("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\n\r\n"),
            LateAsync($"POST /sandboxes/{sandbox.Id}/exec HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\n"
                + $"Content-Length: {Body.Length}\r\nConnection: close\r\n\r\n{Body}"));
        Assert.Contains("pandora_executions_total", answers[0]);
        Assert.Contains("\"stdout\":\"small\\n\"", answers[1]);
        // The answers are chunked, and end with the last chunk.
        Assert.All(answers, a => Assert.EndsWith("\r\n0\r\n\r\n", a));

        async Task<string> LateAsync(string request)
        {
            using var socket = fixture.World.Host.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp));
            await socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, 8000));
            await socket.SendAsync(Encoding.ASCII.GetBytes(request));
            await Task.Delay(ReadingPace.Grace + TimeSpan.FromSeconds(3), TimeProvider.System);
            using var stream = new NetworkStream(socket);
            using var reader = new StreamReader(stream);
            return await reader.ReadToEndAsync();
        }
    }

    // Uses a raw socket: the test cannot control how far a client library reads ahead.
    private async Task<(long Bytes, TimeSpan After)> ReadAsync(
        string id, TaskCompletionSource first, CancellationToken cancellationToken, int perSecond = 400)
    {
        using var socket = fixture.World.Host.Run(() => new Socket(
            AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp)
        { ReceiveBufferSize = 4096 });
        await socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, 8000), cancellationToken);
        var body = """{"code": "cat /root/result", "timeout": 280}""";
        var request = $"POST /sandboxes/{id}/exec HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\n"
            + $"Content-Length: {body.Length}\r\nConnection: close\r\n\r\n{body}";
        await socket.SendAsync(Encoding.ASCII.GetBytes(request), cancellationToken);
        var buffer = new byte[perSecond];
        var (bytes, start) = (0L, 0L);
        try
        {
            while (await socket.ReceiveAsync(buffer, cancellationToken) is var count && count > 0)
            {
                if (bytes == 0)
                {
                    Assert.StartsWith("HTTP/1.1 200", Encoding.ASCII.GetString(buffer, 0, count));
                    start = Stopwatch.GetTimestamp();
                    first.TrySetResult();
                }

                bytes += count;
                var early = TimeSpan.FromSeconds((double)bytes / perSecond) - Stopwatch.GetElapsedTime(start);
                await Task.Delay(early > TimeSpan.Zero ? early : TimeSpan.Zero, TimeProvider.System, cancellationToken);
            }
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException)
        {
            // Cut off.
        }
        finally
        {
            first.TrySetResult();
        }

        return (bytes, Stopwatch.GetElapsedTime(start));
    }

    private double ResidentMiB()
    {
        var line = File.ReadLines($"/proc/{Server.Pid}/status").First(l => l.StartsWith("VmRSS:", StringComparison.Ordinal));
        return double.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) / 1024;
    }

    private async Task<double> PausedAsync()
    {
        var lines = (await Server.Pandora.GetMetricsAsync()).Split('\n');
        return double.Parse(lines.First(l => l.StartsWith("dotnet_gc_pause_time_seconds_total", StringComparison.Ordinal)).Split(' ')[1]);
    }

    private static async Task UntilAsync(Func<bool> condition, TimeSpan limit)
    {
        using var stop = new CancellationTokenSource(limit, TimeProvider.System);
        while (!condition() && !stop.IsCancellationRequested)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System);
        }

        Assert.True(condition(), "the condition did not hold in time");
    }
}

/// <summary>A server that runs as many commands at once in a sandbox as there are slow readers.</summary>
public sealed class SlowReaderFixture : ServerFixture
{
    public const int MaxExecs = 20;

    internal override Dictionary<string, string> Settings => new() { ["PANDORA_POOL_SIZE"] = "2", ["PANDORA_MAX_EXECS"] = $"{MaxExecs}" };
}
