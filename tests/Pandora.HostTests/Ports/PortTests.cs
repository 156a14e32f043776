using System.Net;
using System.Security.Cryptography;
using System.Text;
using Pandora.Client;
using Pandora.HostTests.World;

namespace Pandora.HostTests.Ports;

/// <summary>Ports of a real guest, through the tunnel, the command line and previews.</summary>
public sealed class PortTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const int Megabytes = 48;

    // It echoes what comes, and answers the end of the input with the number of bytes.
    private const string Echo = """
        import socket, sys, threading
        def serve(c):
            n = 0
            while True:
                b = c.recv(65536)
                if not b:
                    break
                n += len(b)
                c.sendall(b)
            c.sendall(b"(%d)" % n)
            c.close()
        s = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
        while True:
            threading.Thread(target=serve, args=s.accept()[:1]).start()
        """;

    private PandoraClient Pandora => fixture.Server.Pandora;

    [Theory]
    [InlineData("127.0.0.1", 4001)]
    [InlineData("::1", 4002)]
    [InlineData("172.16.0.2", 4003)]
    [InlineData("127.8.9.10", 4004)]
    public async Task What_listens_on_any_of_the_guests_addresses_is_listed_and_reached(string address, int port)
    {
        await using var sandbox = await Pandora.CreateAsync();
        await StartEchoAsync(sandbox, address, port);
        var listed = Assert.Single(await sandbox.Ports.ListAsync(), p => p.Port == port);
        Assert.Equal((address, "python3"), (Assert.Single(listed.Addresses), listed.Program));
        Assert.Equal($"{listed.Pid}\n", (await sandbox.ExecAsync($"pgrep -f 'echo.py {address}'")).Stdout);
        await using var stream = await sandbox.Ports.ConnectAsync(port);
        await stream.WriteAsync("hello"u8.ToArray());
        await stream.EndWriteAsync();
        Assert.Equal("hello(5)", await ReadToEndAsync(stream));
    }

    [Fact]
    public async Task Large_transfers_both_ways_at_once_arrive_whole()
    {
        await using var sandbox = await Pandora.CreateAsync();
        await StartEchoAsync(sandbox, "127.0.0.1", 4000);
        await using var stream = await sandbox.Ports.ConnectAsync(4000);
        using var sent = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        using var received = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var writing = Task.Run(async () =>
        {
            var bytes = new byte[100_000];
            for (var left = Megabytes * 1_000_000; left > 0; left -= bytes.Length)
            {
                RandomNumberGenerator.Fill(bytes);
                sent.AppendData(bytes);
                await stream.WriteAsync(bytes);
            }

            await stream.EndWriteAsync();
        });
        var tail = Encoding.ASCII.GetBytes($"({Megabytes * 1_000_000})");
        var buffer = new byte[64 * 1024];
        for (var left = Megabytes * 1_000_000; left > 0;)
        {
            var count = await stream.ReadAsync(buffer.AsMemory(0, Math.Min(left, buffer.Length)));
            Assert.NotEqual(0, count);
            received.AppendData(buffer, 0, count);
            left -= count;
        }

        await writing;
        Assert.Equal(sent.GetHashAndReset(), received.GetHashAndReset());
        Assert.Equal(Encoding.ASCII.GetString(tail), await ReadToEndAsync(stream));
    }

    [Fact]
    public async Task A_port_that_nobody_listens_on_is_an_error_that_says_so()
    {
        await using var sandbox = await Pandora.CreateAsync();
        var refused = await Assert.ThrowsAsync<PandoraApiException>(() => sandbox.Ports.ConnectAsync(4444));
        Assert.Equal(("port_closed", 502), (refused.Code, refused.Status));
        using var preview = await PreviewAsync(sandbox.Id, 4444, "/");
        Assert.Equal(
            (HttpStatusCode.BadGateway, "application/problem+json"),
            (preview.StatusCode, preview.Content.Headers.ContentType?.MediaType));
    }

    [Fact]
    public async Task The_command_line_forwards_several_ports_until_it_is_interrupted()
    {
        await using var sandbox = await Pandora.CreateAsync();
        await StartWebAsync(sandbox, 4100, "first");
        await StartWebAsync(sandbox, 4200, "second");
        using var shell = new HostShell(fixture.World.Host);
        Assert.Equal("first\nsecond\nended 130\n", await shell.OutputAsync(
            $"env --default-signal=INT pandora-cli forward {sandbox.Id} 18100:4100 18200:4200 2> log & "
            + "for i in $(seq 600); do [ $(grep -c forwarding log) = 2 ] && break; sleep 0.1; done; "
            + "curl -s --noproxy '*' http://127.0.0.1:18100/page; curl -s --noproxy '*' http://127.0.0.1:18200/page; "
            + "kill -INT %1; wait %1; echo ended $?"));
        Assert.Equal("first\n", await shell.OutputAsync(
            $"printf 'GET /page HTTP/1.0\\r\\n\\r\\n' | pandora-cli forward {sandbox.Id} --stdio 4100 | tail -1"));
    }

    [Fact]
    public async Task A_preview_passes_large_bodies_and_streams()
    {
        await using var sandbox = await Pandora.CreateAsync();
        await StartWebAsync(sandbox, 4300, "page");
        var made = await sandbox.ExecAsync(
            "head -c 64000000 /dev/urandom > /srv/4300/big; sha256sum < /srv/4300/big | cut -d' ' -f1",
            new ExecOptions { Timeout = TimeSpan.FromSeconds(300) });
        using var answer = await PreviewAsync(sandbox.Id, 4300, "/big");
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        await using var body = await answer.Content.ReadAsStreamAsync();
        Assert.Equal(made.Stdout.Trim(), Convert.ToHexStringLower(await SHA256.HashDataAsync(body)));
    }

    [Fact]
    public async Task Open_connections_are_no_activity_and_end_with_the_sandbox()
    {
        await using var sandbox = await Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(10) });
        await StartEchoAsync(sandbox, "127.0.0.1", 4000);
        await using var stream = await sandbox.Ports.ConnectAsync(4000);
        var lost = await Assert.ThrowsAnyAsync<IOException>(() => ReadToEndAsync(stream));
        Assert.Contains("nobody used it for 10 s", lost.Message);
        using var preview = await PreviewAsync(sandbox.Id, 4000, "/");
        Assert.Equal(HttpStatusCode.Gone, preview.StatusCode);
    }

    [Fact]
    public async Task The_agents_end_breaks_a_connection_and_the_next_one_works()
    {
        await using var sandbox = await Pandora.CreateAsync();
        await StartEchoAsync(sandbox, "127.0.0.1", 4000);
        await using (var stream = await sandbox.Ports.ConnectAsync(4000))
        {
            await sandbox.Processes.StartAsync("sleep 1; pkill -9 -x pandora-agent; pkill -9 -x agent; true");
            await Assert.ThrowsAnyAsync<IOException>(() => ReadToEndAsync(stream));
        }

        await using var next = await sandbox.Ports.ConnectAsync(4000);
        await next.WriteAsync("again"u8.ToArray());
        await next.EndWriteAsync();
        Assert.Equal("again(5)", await ReadToEndAsync(next));
    }

    private static async Task StartEchoAsync(Sandbox sandbox, string address, int port)
    {
        await sandbox.ExecAsync("cat > /tmp/echo.py", new ExecOptions { Stdin = Echo });
        await sandbox.Processes.StartAsync($"exec python3 /tmp/echo.py {address} {port}");
        await ListensAsync(sandbox, port);
    }

    private static async Task StartWebAsync(Sandbox sandbox, int port, string page)
    {
        await sandbox.ExecAsync($"mkdir -p /srv/{port} && echo {page} > /srv/{port}/page");
        await sandbox.Processes.StartAsync($"cd /srv/{port} && exec python3 -m http.server {port} --bind 127.0.0.1");
        await ListensAsync(sandbox, port);
    }

    private static async Task ListensAsync(Sandbox sandbox, int port) => Assert.Equal(
        0, (await sandbox.ExecAsync($"for i in $(seq 200); do ss -Hltn | grep -q ':{port} ' && exit 0; sleep 0.1; done; exit 1")).ExitCode);

    private async Task<HttpResponseMessage> PreviewAsync(string id, int port, string path)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        request.Headers.Host = $"{port}-{id}.localhost:8000";
        return await fixture.Server.Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
    }

    private static async Task<string> ReadToEndAsync(Stream stream)
    {
        using var reader = new StreamReader(stream, leaveOpen: true);
        return await reader.ReadToEndAsync(TestContext.Current.CancellationToken);
    }
}
