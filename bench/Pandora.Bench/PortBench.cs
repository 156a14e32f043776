using System.Diagnostics;
using System.Globalization;
using System.Text;
using Pandora.Client;
using Pandora.Engine.Guests;
using Pandora.Load;
using Pandora.TestHost;

namespace Pandora.Bench;

/// <summary>
/// What ports cost on top of the channel to the agent. The references are a microVM without a server, whose channel this program reads, and
/// <c>./pandora forward</c> to the same program in the same sandbox.
/// </summary>
internal static class PortBench
{
    private const int Rounds = 200, IdleConnections = 500, Port = 3000, LocalPort = 18330;
    private const long Bytes = 256L * 1024 * 1024;

    // Keeps connections open. /big is the large body, and everything else a small one.
    private static readonly string Web = $$"""
        import socket, threading
        block = bytes(1 << 20)
        def serve(c):
            c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    more = c.recv(65536)
                    if not more:
                        return c.close()
                    data += more
                head, data = data.split(b"\r\n\r\n", 1)
                if b"/big" in head.split(b"\r\n")[0]:
                    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: {{Bytes}}\r\n\r\n")
                    for _ in range({{Bytes}} // len(block)):
                        c.sendall(block)
                else:
                    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall")
        s = socket.create_server(("127.0.0.1", {{Port}}), backlog=1024)
        while True:
            threading.Thread(target=serve, args=s.accept()[:1], daemon=True).start()
        """;

    public static async Task<IReadOnlyList<Result>> RunAsync(Target target)
    {
        await using var bare = await BareGuest.StartAsync(target);
        await using var server = await BenchServer.StartAsync(target, poolSize: 1);
        await using var sandbox = await server.Pandora.CreateAsync(
            new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(3600) });
        await server.WaitForQuietAsync(1);
        await sandbox.ExecAsync("cat > /root/web.py", new ExecOptions { Stdin = Web });
        await sandbox.Processes.StartAsync("exec python3 /root/web.py");
        await sandbox.ExecAsync($"until ss -Hltn | grep -q :{Port}; do sleep 0.1; done");
        using var forward = await ForwardAsync(target, server, sandbox);
        try
        {
            return
            [
                // First: what a transfer leaves in the server's memory would hide what connections need.
                await IdleAsync(server, sandbox),
                await PreviewAsync(server, sandbox),
                await TunnelAsync(sandbox, bare.Guest),
                await DownAsync(server, sandbox, bare.Guest),
            ];
        }
        finally
        {
            forward.Kill();
            await forward.WaitForExitAsync();
        }
    }

    private static async Task<Process> ForwardAsync(Target target, BenchServer server, Sandbox sandbox)
    {
        var start = new ProcessStartInfo(
            Path.Combine(target.Repository, "artifacts/bin/Pandora.Cli/release/pandora-cli"),
            ["forward", sandbox.Id, $"{LocalPort}:{Port}"])
        {
            RedirectStandardError = true,
        };
        CallersSettings.RemoveFrom(start);
        start.Environment["PANDORA_URL"] = server.Url;
        var process = Process.Start(start)!;
        var line = await process.StandardError.ReadLineAsync();
        return line?.Contains("forwarding", StringComparison.Ordinal) == true
            ? process
            : throw new InvalidOperationException($"'pandora forward' said: {line}");
    }

    private static async Task<Result> PreviewAsync(BenchServer server, Sandbox sandbox)
    {
        using var preview = new HttpClient { BaseAddress = new Uri(server.Url) };
        preview.DefaultRequestHeaders.Host = HostOf(server, sandbox);
        using var forwarded = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{LocalPort}") };
        Latencies byPreview = new(), byForward = new();
        for (var i = -20; i < Rounds; i++)
        {
            var one = await AskAsync(preview);
            var other = await AskAsync(forwarded);
            if (i >= 0)
            {
                byPreview.Add(one);
                byForward.Add(other);
            }
        }

        return new Result(
            "request through a preview minus the same through `forward`, p50", byPreview.Percentile(50) - byForward.Percentile(50), "ms", 2,
            $"{byPreview.Percentile(50):0.00} ms, {byForward.Percentile(50):0.00} ms by forward");

        static async Task<TimeSpan> AskAsync(HttpClient http)
        {
            var start = Stopwatch.GetTimestamp();
            var text = await http.GetStringAsync(new Uri("/", UriKind.Relative));
            return text == "small" ? Stopwatch.GetElapsedTime(start) : throw new InvalidOperationException($"the answer was '{text}'");
        }
    }

    private static async Task<Result> TunnelAsync(Sandbox sandbox, IGuest guest)
    {
        await using var stream = await sandbox.Ports.ConnectAsync(Port);
        await using var direct = await guest.StartAsync(new ProcessSpec { Code = "sleep 3600" }, CancellationToken.None);
        var request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"u8.ToArray();
        var buffer = new byte[4096];
        Latencies tunnel = new(), channel = new();
        for (var i = -20; i < Rounds; i++)
        {
            var start = Stopwatch.GetTimestamp();
            await stream.WriteAsync(request);
            for (var text = ""; !text.EndsWith("small", StringComparison.Ordinal);)
            {
                text += Encoding.ASCII.GetString(buffer, 0, await stream.ReadAsync(buffer));
            }

            var took = Stopwatch.GetElapsedTime(start);
            start = Stopwatch.GetTimestamp();
            await guest.GetAsync(direct.Id, CancellationToken.None);
            if (i >= 0)
            {
                tunnel.Add(took);
                channel.Add(Stopwatch.GetElapsedTime(start));
            }
        }

        return new Result(
            "small request through the tunnel minus the channel's round trip, p50", tunnel.Percentile(50) - channel.Percentile(50), "ms", 5,
            $"{tunnel.Percentile(50):0.00} ms, {channel.Percentile(50):0.00} ms for the agent's answer alone");
    }

    private static async Task<Result> DownAsync(BenchServer server, Sandbox sandbox, IGuest guest)
    {
        using var http = new HttpClient { BaseAddress = new Uri(server.Url), Timeout = Timeout.InfiniteTimeSpan };
        http.DefaultRequestHeaders.Host = HostOf(server, sandbox);
        var start = Stopwatch.GetTimestamp();
        await using var body = await http.GetStreamAsync(new Uri("/big", UriKind.Relative));
        var (total, buffer) = (0L, new byte[128 * 1024]);
        while (await body.ReadAsync(buffer) is var count && count > 0)
        {
            total += count;
        }

        var byPreview = Stopwatch.GetElapsedTime(start);
        var (alone, byChannel) = await DownAsync(guest);
        return (total, alone) == (Bytes, Bytes)
            ? new Result(
                "256 MiB down by the channel alone / through a preview, rates", byPreview / byChannel, "×", 1 / 0.6,
                $"{Rate(byChannel)} MiB/s / {Rate(byPreview)} MiB/s")
            : throw new InvalidOperationException($"{total} bytes came through the preview and {alone} over the channel");

        static string Rate(TimeSpan time) => (Bytes / 1048576 / time.TotalSeconds).ToString("0.0", CultureInfo.InvariantCulture);
    }

    // The same program in the guest without a server.
    private static async Task<(long Bytes, TimeSpan Took)> DownAsync(IGuest guest)
    {
        await guest.ExecAsync(new GuestCommand { Code = "cat > /root/web.py", Stdin = Encoding.ASCII.GetBytes(Web) }, default);
        await using var web = await guest.StartAsync(new ProcessSpec { Code = "exec python3 /root/web.py" }, default);
        await guest.ExecAsync(new GuestCommand { Code = $"until ss -Hltn | grep -q :{Port}; do sleep 0.1; done" }, default);
        var start = Stopwatch.GetTimestamp();
        await using var stream = await guest.ConnectAsync(Port, default);
        await stream.WriteAsync("GET /big HTTP/1.1\r\n\r\n"u8.ToArray());
        var (total, buffer, head) = (0L, new byte[128 * 1024], "");
        while (!head.EndsWith("\r\n\r\n", StringComparison.Ordinal))
        {
            await stream.ReadExactlyAsync(buffer.AsMemory(0, 1));
            head += (char)buffer[0];
        }

        while (total < Bytes && await stream.ReadAsync(buffer) is var count && count > 0)
        {
            total += count;
        }

        return (total, Stopwatch.GetElapsedTime(start));
    }

    private static async Task<Result> IdleAsync(BenchServer server, Sandbox sandbox)
    {
        var streams = new List<Stream>();
        // What the first connections cost once is no cost of a connection.
        await OpenAsync(20);
        await CloseAsync();
        await Task.Delay(TimeSpan.FromSeconds(10), TimeProvider.System);
        var before = BenchServer.ResidentMiB(server.Pid);
        await OpenAsync(IdleConnections);
        await Task.Delay(TimeSpan.FromSeconds(2), TimeProvider.System);
        var after = BenchServer.ResidentMiB(server.Pid);
        await CloseAsync();
        return new Result(
            $"server memory for {IdleConnections} idle connections to a port (RSS)", after - before, "MiB", 40,
            $"{before:0} MiB to {after:0} MiB, all in one sandbox");

        async Task OpenAsync(int count)
        {
            for (var i = 0; i < count; i++)
            {
                streams.Add(await sandbox.Ports.ConnectAsync(Port));
            }
        }

        async Task CloseAsync()
        {
            foreach (var stream in streams)
            {
                await stream.DisposeAsync();
            }

            streams.Clear();
        }
    }

    private static string HostOf(BenchServer server, Sandbox sandbox) => $"{Port}-{sandbox.Id}.localhost:{new Uri(server.Url).Port}";
}
