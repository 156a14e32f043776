using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Pandora.Tests.Client.Ports;
using static Pandora.Tests.Cli.CliProcess;

namespace Pandora.Tests.Cli.Ports;

/// <summary><c>forward</c> as a shell and as programs on this host see it.</summary>
public sealed class ForwardCommandTests : IAsyncLifetime
{
    private readonly List<Process> _processes = [];
    private PortsServer _server = null!;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync() => _server = await PortsServer.StartAsync();

    public async ValueTask DisposeAsync()
    {
        foreach (var process in _processes)
        {
            process.Kill();
            process.Dispose();
        }

        await _server.DisposeAsync();
        Assert.Empty(_server.Faults);
    }

    [Fact]
    public async Task Many_connections_to_several_ports_are_pumped_both_ways_with_half_close()
    {
        using var _ = _server.Listen(3000, CountAsync);
        using var __ = _server.Listen(3001, CountAsync);
        var (process, ports) = await ForwardAsync("0:3000", "0:3001");
        var answers = await Task.WhenAll(Enumerable.Range(0, 60).Select(i => AskAsync(ports[i % 2], (i * 5000) + 1)));
        Assert.Equal(Enumerable.Range(0, 60).Select(i => $"{(i * 5000) + 1} bytes"), answers);
        await UntilAsync(() => _server.Open == 0);

        Signal(process, "INT");
        var (exitCode, output, error) = await EndAsync(process);
        Assert.Equal((130, ""), (exitCode, output));
        Assert.Contains("the forwarding has ended", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Bytes_arrive_as_they_were_in_both_directions_at_once()
    {
        using var _ = _server.Listen(3000, async socket =>
        {
            await using var guest = new NetworkStream(socket);
            await guest.CopyToAsync(guest);
            socket.Shutdown(SocketShutdown.Send);
        });
        var (_, ports) = await ForwardAsync("0:3000");
        using var client = new TcpClient();
        await client.ConnectAsync(IPAddress.Loopback, ports[0], Token);
        var sent = RandomNumberGenerator.GetBytes(8 * 1024 * 1024);
        var stream = client.GetStream();
        var writing = Task.Run(async () =>
        {
            await stream.WriteAsync(sent, Token);
            client.Client.Shutdown(SocketShutdown.Send);
        });
        using var received = new MemoryStream();
        await stream.CopyToAsync(received, Token);
        await writing;
        Assert.Equal(SHA256.HashData(sent), SHA256.HashData(received.ToArray()));
    }

    [Fact]
    public async Task A_port_that_nobody_listens_on_is_reported_once_and_the_forwarding_goes_on()
    {
        var (process, ports) = await ForwardAsync("0:3000");
        for (var i = 0; i < 3; i++)
        {
            using var client = new TcpClient();
            await client.ConnectAsync(IPAddress.Loopback, ports[0], Token);
            await Assert.ThrowsAnyAsync<IOException>(() => client.GetStream().ReadExactlyAsync(new byte[1], Token).AsTask());
        }

        using var _ = _server.Listen(3000, CountAsync);
        Assert.Equal("7 bytes", await AskAsync(ports[0], 7));
        Signal(process, "TERM");
        var (exitCode, _, error) = await EndAsync(process);
        Assert.Equal(143, exitCode);
        var line = $"pandora: no program listens on port 3000 of sandbox {PortsServer.Id}: its connections are closed until one does";
        Assert.Single(error.Split('\n'), line);
    }

    [Fact]
    public async Task The_end_of_the_sandbox_ends_the_command_with_its_reason()
    {
        using var _ = _server.Listen(3000, socket => Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, Token));
        var (process, ports) = await ForwardAsync("0:3000");
        using var client = new TcpClient();
        await client.ConnectAsync(IPAddress.Loopback, ports[0], Token);
        await UntilAsync(() => _server.Open == 1);
        _server.End("the sandbox was idle for 60 s");
        await Assert.ThrowsAnyAsync<IOException>(() => client.GetStream().ReadExactlyAsync(new byte[1], Token).AsTask());
        var (exitCode, output, error) = await EndAsync(process);
        Assert.Equal((125, "", "pandora: the sandbox was idle for 60 s\n"), (exitCode, output, error));
    }

    [Fact]
    public async Task A_connection_that_breaks_makes_a_check_at_once()
    {
        using var _ = _server.Listen(3000, socket =>
        {
            socket.LingerState = new LingerOption(true, 0);
            return Task.CompletedTask;
        });
        var (_, ports) = await ForwardAsync("0:3000");
        // Other checks follow the one before them after five seconds at the earliest. On a slow machine the connection may be as late.
        var most = TimeSpan.FromSeconds(5);
        for (var i = 0; i < 5; i++)
        {
            var checks = _server.Checks.Count;
            await BreakAsync(ports[0]);
            await UntilAsync(() => _server.Checks.Count > checks);
            var times = _server.Checks.ToArray();
            if (times.Zip(times.Skip(1), Stopwatch.GetElapsedTime).Any(t => t < most))
            {
                return;
            }
        }

        Assert.Fail("the broken connections made no check");
    }

    [Fact]
    public async Task Nothing_listens_for_a_sandbox_that_is_none_and_on_a_port_that_is_taken()
    {
        var (exitCode, output, error) = await RunAsync(["--url", _server.Url, "forward", "other", "0:3000"]);
        Assert.Equal((125, ""), (exitCode, output));
        Assert.DoesNotContain("forwarding", error, StringComparison.Ordinal);

        using var taken = new TcpListener(IPAddress.Loopback, 0);
        taken.Start();
        var port = ((IPEndPoint)taken.LocalEndpoint).Port;
        (exitCode, _, error) = await RunAsync(["--url", _server.Url, "forward", PortsServer.Id, $"{port}:3000"]);
        Assert.Equal(125, exitCode);
        Assert.Contains($"127.0.0.1:{port} cannot be listened on", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task With_JSON_the_ports_are_lines_on_standard_output()
    {
        using var process = Start(["--url", _server.Url, "--json", "forward", PortsServer.Id, "0:3000", "--keep-alive"]);
        _processes.Add(process);
        var line = JsonDocument.Parse((await process.StandardOutput.ReadLineAsync(Token))!).RootElement;
        Assert.Equal(("127.0.0.1", 3000), (line.GetProperty("address").GetString(), line.GetProperty("port").GetInt32()));
        Assert.InRange(line.GetProperty("local_port").GetInt32(), 1, 65535);
        Assert.Contains($"POST /sandboxes/{PortsServer.Id}/keepalive", _server.Requests);
        process.Kill();
        _processes.Remove(process);
    }

    [Fact]
    public async Task Standard_input_and_output_are_the_two_directions()
    {
        using var _ = _server.Listen(3000, CountAsync);
        using var process = Start(["--url", _server.Url, "forward", PortsServer.Id, "--stdio", "3000"]);
        await process.StandardInput.BaseStream.WriteAsync(new byte[300_000], Token);
        process.StandardInput.Close();
        Assert.Equal((0, "300000 bytes", ""), await EndAsync(process));
    }

    [Fact]
    public async Task The_ports_end_closes_standard_output_and_the_input_is_still_sent()
    {
        var received = new TaskCompletionSource<string>();
        using var _ = _server.Listen(3000, async socket =>
        {
            using var reader = new StreamReader(new NetworkStream(socket));
            socket.Send("bye"u8);
            socket.Shutdown(SocketShutdown.Send);
            received.SetResult(await reader.ReadToEndAsync());
        });
        using var process = Start(["--url", _server.Url, "forward", PortsServer.Id, "--stdio", "3000"]);
        Assert.Equal("bye", await process.StandardOutput.ReadToEndAsync(Token).WaitAsync(Limit, Token));
        await process.StandardInput.WriteAsync("more");
        process.StandardInput.Close();
        Assert.Equal(0, (await EndAsync(process)).ExitCode);
        Assert.Equal("more", await received.Task.WaitAsync(Limit, Token));
    }

    [Fact]
    public async Task A_connection_of_standard_streams_that_breaks_says_why()
    {
        using var _ = _server.Listen(3000, socket => Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, Token));
        using var process = Start(["--url", _server.Url, "forward", PortsServer.Id, "--stdio", "3000"]);
        await UntilAsync(() => _server.Open == 1);
        _server.End("the sandbox was deleted");
        Assert.Equal((125, "", "pandora: the sandbox was deleted\n"), await EndAsync(process));

        Assert.Equal(125, (await RunAsync(["--url", _server.Url, "forward", "other", "--stdio", "3000"])).ExitCode);
    }

    private static async Task CountAsync(Socket socket)
    {
        await using var stream = new NetworkStream(socket);
        using var all = new MemoryStream();
        await stream.CopyToAsync(all);
        await stream.WriteAsync(Encoding.ASCII.GetBytes($"{all.Length} bytes"));
    }

    private static async Task<string> AskAsync(int port, int count)
    {
        using var client = new TcpClient();
        await client.ConnectAsync(IPAddress.Loopback, port, Token);
        using var reader = new StreamReader(client.GetStream());
        await client.GetStream().WriteAsync(new byte[count], Token);
        client.Client.Shutdown(SocketShutdown.Send);
        return await reader.ReadToEndAsync(Token);
    }

    private static async Task BreakAsync(int port)
    {
        using var client = new TcpClient();
        await client.ConnectAsync(IPAddress.Loopback, port, Token);
        await Assert.ThrowsAnyAsync<IOException>(() => client.GetStream().ReadExactlyAsync(new byte[1], Token).AsTask());
    }

    private static void Signal(Process process, string signal)
    {
        using var kill = Process.Start("kill", [$"-{signal}", $"{process.Id}"]);
        kill.WaitForExit();
    }

    private async Task<(Process Process, int[] Ports)> ForwardAsync(params string[] forwards)
    {
        var process = Start(["--url", _server.Url, "forward", PortsServer.Id, .. forwards]);
        _processes.Add(process);
        var ports = new int[forwards.Length];
        for (var i = 0; i < ports.Length; i++)
        {
            var line = await process.StandardError.ReadLineAsync(Token);
            var port = forwards[i].Split(':')[1];
            Assert.Matches($@"^forwarding 127\.0\.0\.1:\d+ to port {port} of sandbox {PortsServer.Id}$", line);
            ports[i] = int.Parse(line!.Split(' ')[1].Split(':')[1]);
        }

        return (process, ports);
    }
}
