using System.Net.Sockets;
using System.Text;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Tests.Client.Ports;

/// <summary>The requests about ports and SSH keys, and the HTTP client of a port.</summary>
public sealed class SandboxPortsTests : IAsyncLifetime
{
    private PortsServer _server = null!;
    private PandoraClient _pandora = null!;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private Sandbox Sandbox => _pandora.Connect(PortsServer.Id);

    public async ValueTask InitializeAsync()
    {
        _server = await PortsServer.StartAsync("secret");
        _pandora = new PandoraClient(_server.Url, "secret");
    }

    public async ValueTask DisposeAsync()
    {
        _pandora.Dispose();
        await _server.DisposeAsync();
        Assert.Empty(_server.Faults);
    }

    [Fact]
    public async Task Ports_are_listed_opened_and_linked()
    {
        var ports = await Sandbox.Ports.ListAsync(Token);
        Assert.Equal([22, 3000], ports.Select(p => p.Port));
        Assert.Equal(["0.0.0.0", "::"], ports[0].Addresses);
        Assert.Equal((false, (int?)7), (ports[0].IsPublic, ports[0].Pid));
        Assert.Equal((true, null), (ports[1].IsPublic, ports[1].Program));

        var preview = await Sandbox.Ports.SetPublicAsync(3000, true, Token);
        Assert.Equal((3000, true, ports[1].PreviewUrl), (preview.Port, preview.IsPublic, preview.Url));
        var link = await Sandbox.Ports.CreateLinkAsync(3000, TimeSpan.FromMinutes(15), Token);
        Assert.EndsWith("?pandora_link=x", link.Url, StringComparison.Ordinal);
        await Sandbox.Ports.CreateLinkAsync(3000, cancellationToken: Token);
        Assert.Equal(
            [
                $"GET /sandboxes/{PortsServer.Id}/ports",
                $$"""PUT /sandboxes/{{PortsServer.Id}}/ports/3000 {"public":true}""",
                $$"""POST /sandboxes/{{PortsServer.Id}}/ports/3000/links {"expires_in":900}""",
                $$"""POST /sandboxes/{{PortsServer.Id}}/ports/3000/links {}""",
            ],
            _server.Requests);
    }

    [Fact]
    public async Task Keys_of_SSH_are_shown_and_set_and_its_server_is_reached()
    {
        var before = await Sandbox.Ssh.GetAsync(Token);
        Assert.Equal((0, PortsServer.HostKey), (before.Keys.Count, before.HostKey));
        var after = await Sandbox.Ssh.SetKeysAsync(["ssh-ed25519 AAAA me"], Token);
        Assert.Equal(["ssh-ed25519 AAAA me"], after.Keys);
        var refused = await Assert.ThrowsAsync<PandoraApiException>(() => Sandbox.Ssh.ConnectAsync(Token));
        Assert.Equal(ErrorCodes.PortClosed.Code, refused.Code);
        _server.Ssh = () => new MemoryStream("SSH-2.0-guest\r\n"u8.ToArray());
        await using var connection = await Sandbox.Ssh.ConnectAsync(Token);
        using var reader = new StreamReader(connection);
        Assert.Equal("SSH-2.0-guest", await reader.ReadLineAsync(Token));
    }

    [Fact]
    public async Task A_sandbox_is_created_with_public_ports_and_keys()
    {
        await using var sandbox = await _pandora.CreateAsync(
            new CreateSandboxOptions { PublicPorts = [80, 3000], SshKeys = ["ssh-ed25519 AAAA me"], KeepAlive = false }, Token);
        Assert.Contains("""POST /sandboxes {"public_ports":[80,3000],"ssh_keys":["ssh-ed25519 AAAA me"]}""", _server.Requests);
    }

    [Fact]
    public async Task An_HTTP_client_of_a_port_reaches_it_under_its_own_host_and_sends_it_no_key()
    {
        var seen = "";
        using var _ = _server.Listen(3000, socket => AnswerAsync(socket, head =>
        {
            seen = head;
            return "200 OK";
        }));
        using var http = Sandbox.Ports.CreateHttpClient(3000);
        Assert.Equal("hello", await http.GetStringAsync("path", Token));
        Assert.Equal("hello", await http.GetStringAsync(new Uri(http.BaseAddress!, "/other?x=1"), Token));
        Assert.Contains($"\r\nHost: 3000-{PortsServer.Id}.localhost:{new Uri(_server.Url).Port}\r\n", seen, StringComparison.Ordinal);
        Assert.DoesNotContain("secret", seen, StringComparison.Ordinal);
        // The second request takes the first one's connection.
        Assert.Single(_server.Requests);
    }

    [Fact]
    public async Task An_HTTP_client_of_a_port_reaches_nothing_else()
    {
        using var _ = _server.Listen(3000, socket => AnswerAsync(
            socket, head => $"307 Go\r\nLocation: {_server.Url}/sandboxes/{PortsServer.Id}/ports"));
        using var http = Sandbox.Ports.CreateHttpClient(3000);
        var error = await Assert.ThrowsAsync<HttpRequestException>(() => http.GetStringAsync("/", Token));
        Assert.Contains("reaches 3000-", $"{error.Message} {error.InnerException?.Message}", StringComparison.Ordinal);
        Assert.DoesNotContain($"GET /sandboxes/{PortsServer.Id}/ports", _server.Requests);

        using var closed = Sandbox.Ports.CreateHttpClient(81);
        error = await Assert.ThrowsAsync<HttpRequestException>(() => closed.GetStringAsync("/", Token));
        Assert.Equal("port_closed", Assert.IsType<PandoraApiException>(error.InnerException).Code);
    }

    [Fact]
    public async Task A_test_can_replace_ports_and_their_streams()
    {
        await using PortStream stream = new ScriptedStream();
        Assert.Equal(3, await stream.ReadAsync(new byte[3], Token));
        await Assert.ThrowsAsync<NotSupportedException>(() => stream.EndWriteAsync(Token));
        await Assert.ThrowsAsync<NotSupportedException>(() => new ScriptedPorts().ListAsync(Token));
    }

    private static async Task AnswerAsync(Socket socket, Func<string, string> statusOf)
    {
        await using var stream = new NetworkStream(socket);
        using var reader = new StreamReader(stream, Encoding.ASCII);
        var head = new StringBuilder();
        while (await reader.ReadLineAsync() is { } line)
        {
            head.Append(line).Append("\r\n");
            if (line.Length == 0)
            {
                var status = statusOf(head.ToString());
                await stream.WriteAsync(Encoding.ASCII.GetBytes($"HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nhello"));
                head.Clear();
            }
        }
    }

    private sealed class ScriptedPorts : SandboxPorts;

    private sealed class ScriptedStream : PortStream
    {
        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => new(buffer.Length);
    }
}
