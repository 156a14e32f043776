using System.Diagnostics;
using Pandora.Client;
using Pandora.Engine.Guests;
using Pandora.Engine.Guests.Agent;
using Pandora.Load;

namespace Pandora.Bench;

/// <summary>
/// What streams cost on top of the channel to the agent. The reference is a microVM without a server, whose channel this program reads.
/// Both are measured in the same run, alternately where that is possible.
/// </summary>
internal static class StreamBench
{
    private const int Rounds = 100, QuietStreams = 500, IdleSeconds = 20;
    private const long Gibibyte = 1024L * 1024 * 1024;
    private static readonly string Zeros = $"head -c {Gibibyte} /dev/zero";

    public static async Task<IReadOnlyList<Result>> RunAsync(Target target)
    {
        await using var bare = await BareGuest.StartAsync(target);
        await using var server = await BenchServer.StartAsync(target, poolSize: 1);
        await using var sandbox = await server.Pandora.CreateAsync(
            new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(3600) });
        await server.WaitForQuietAsync(1);
        return
        [
            await FirstByteAsync(sandbox),
            await KeystrokeAsync(sandbox, bare.Guest),
            await OutputAsync(server, sandbox, bare.Guest),
            .. await QuietAsync(server, sandbox),
        ];
    }

    private static async Task<Result> FirstByteAsync(Sandbox sandbox)
    {
        Latencies first = new(), collected = new();
        for (var i = -20; i < Rounds; i++)
        {
            var start = Stopwatch.GetTimestamp();
            TimeSpan? took = null;
            await sandbox.ExecAsync("echo x", new ExecOptions { OnStdout = _ => took ??= Stopwatch.GetElapsedTime(start) });
            start = Stopwatch.GetTimestamp();
            await sandbox.ExecAsync("echo x");
            if (i >= 0)
            {
                first.Add(took!.Value);
                collected.Add(Stopwatch.GetElapsedTime(start));
            }
        }

        return new Result(
            "first byte of a streamed `echo x` / collected exec, p50", first.Percentile(50) / collected.Percentile(50), "×", 1.1,
            $"{first.Percentile(50):0.0} ms / {collected.Percentile(50):0.0} ms, {Rounds} each, at the client");
    }

    // A terminal echoes each character, here while cat waits for a line.
    private static async Task<Result> KeystrokeAsync(Sandbox sandbox, AgentGuest guest)
    {
        await using var terminal = await sandbox.Processes.OpenTerminalAsync(
            "cat", new ProcessOptions { Terminal = new TerminalDimensions(80, 24) });
        await using var direct = await guest.StartAsync(new ProcessSpec { Code = "cat", Terminal = (80, 24) }, CancellationToken.None);
        await using var output = terminal.ReadOutputAsync().GetAsyncEnumerator();
        Latencies typed = new(), alone = new();
        // A line of a terminal may have 4,095 characters.
        byte[] key = [(byte)'a'];
        for (var i = -20; i < 3 * Rounds; i++)
        {
            var start = Stopwatch.GetTimestamp();
            // Reading connects.
            var echoed = output.MoveNextAsync();
            await terminal.WriteInputAsync(key);
            await echoed;
            var took = Stopwatch.GetElapsedTime(start);
            start = Stopwatch.GetTimestamp();
            await direct.WriteInputAsync(key, CancellationToken.None);
            await direct.ReadAsync(CancellationToken.None);
            if (i >= 0)
            {
                typed.Add(took);
                alone.Add(Stopwatch.GetElapsedTime(start));
            }

            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System);
        }

        return new Result(
            "echo of a key in a terminal by WebSocket minus the channel's round trip, p50",
            typed.Percentile(50) - alone.Percentile(50), "ms", 3, $"{typed.Percentile(50):0.00} ms, {alone.Percentile(50):0.00} ms alone");
    }

    private static async Task<Result> OutputAsync(BenchServer server, Sandbox sandbox, AgentGuest guest)
    {
        using var http = new HttpClient { BaseAddress = new Uri(server.Url), Timeout = Timeout.InfiniteTimeSpan };
        var process = await sandbox.Processes.StartAsync(Zeros, new ProcessOptions { WaitsForReader = true });
        using var request = new HttpRequestMessage(HttpMethod.Get, $"/sandboxes/{sandbox.Id}/processes/{process.Id}/output");
        request.Headers.Accept.ParseAdd("application/octet-stream");
        var start = Stopwatch.GetTimestamp();
        using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        await using var body = await response.EnsureSuccessStatusCode().Content.ReadAsStreamAsync();
        var (total, buffer) = (0L, new byte[128 * 1024]);
        while (await body.ReadAsync(buffer) is var count && count > 0)
        {
            total += count;
        }

        var byHttp = Stopwatch.GetElapsedTime(start);
        start = Stopwatch.GetTimestamp();
        await using var direct = await guest.StartAsync(new ProcessSpec { Code = Zeros, WaitsForReader = true }, CancellationToken.None);
        var alone = 0L;
        while (await direct.ReadAsync(CancellationToken.None) is { } output)
        {
            alone += output.Bytes.Length;
        }

        var byChannel = Stopwatch.GetElapsedTime(start);
        if ((total, alone) != (Gibibyte, Gibibyte))
        {
            throw new InvalidOperationException($"{total} bytes came over HTTP and {alone} over the channel");
        }

        return new Result(
            "1 GiB of output by the channel alone / through HTTP, rates", byHttp / byChannel, "×", 1 / 0.7,
            $"{1024 / byChannel.TotalSeconds:0.0} MiB/s / {1024 / byHttp.TotalSeconds:0.0} MiB/s");
    }

    private static async Task<IReadOnlyList<Result>> QuietAsync(BenchServer server, Sandbox sandbox)
    {
        using var handler = new SocketsHttpHandler { MaxConnectionsPerServer = 2 * QuietStreams };
        using var http = new HttpClient(handler) { BaseAddress = new Uri(server.Url), Timeout = Timeout.InfiniteTimeSpan };
        var process = await sandbox.Processes.StartAsync("sleep 100000");
        // What the first streams cost once is no cost of a stream.
        var responses = new List<HttpResponseMessage>();
        await AttachAsync(http, sandbox, process, 20, responses);
        responses.ForEach(r => r.Dispose());
        responses.Clear();
        await Task.Delay(TimeSpan.FromSeconds(10), TimeProvider.System);
        var (memory, cpu) = (BenchServer.ResidentMiB(server.Pid), FootprintBench.CpuSeconds(server.Pid));
        await Task.Delay(TimeSpan.FromSeconds(IdleSeconds), TimeProvider.System);
        var without = FootprintBench.CpuSeconds(server.Pid) - cpu;
        await AttachAsync(http, sandbox, process, QuietStreams, responses);
        await Task.Delay(TimeSpan.FromSeconds(2), TimeProvider.System);
        cpu = FootprintBench.CpuSeconds(server.Pid);
        await Task.Delay(TimeSpan.FromSeconds(IdleSeconds), TimeProvider.System);
        var with = FootprintBench.CpuSeconds(server.Pid) - cpu;
        var after = BenchServer.ResidentMiB(server.Pid);
        responses.ForEach(r => r.Dispose());
        return
        [
            new Result(
                $"server memory for {QuietStreams} quiet attached streams (RSS)", after - memory, "MiB", 30,
                $"{memory:0} MiB to {after:0} MiB, all in one sandbox"),
            new Result(
                $"server CPU for {QuietStreams} quiet attached streams", (with - without) / IdleSeconds * 100, "% of a core", 1,
                $"{with * 1000:0} ms in {IdleSeconds} s, {without * 1000:0} ms without them"),
        ];
    }

    private static async Task AttachAsync(
        HttpClient http, Sandbox sandbox, SandboxProcess process, int count, List<HttpResponseMessage> responses)
    {
        for (var i = 0; i < count; i++)
        {
            responses.Add((await http.GetAsync(
                new Uri($"/sandboxes/{sandbox.Id}/processes/{process.Id}/output", UriKind.Relative),
                HttpCompletionOption.ResponseHeadersRead)).EnsureSuccessStatusCode());
        }
    }
}
