using System.Net;
using System.Net.Sockets;
using System.Text;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

/// <summary>Ports of a sandbox: connections, their limits and ends, and who may reach what.</summary>
public sealed class SandboxPortsTests
{
    private static readonly string Key = $"ssh-ed25519 {Blob("ssh-ed25519", 32)} me@there";

    public static TheoryData<string?, bool> Keys => new()
    {
        { Key, true },
        { Key[..Key.LastIndexOf(' ')], true },
        { $"{Key} and more wörds", true },
        { $"ssh-rsa {Blob("ssh-rsa", 3, 257)}", true },
        { $"ecdsa-sha2-nistp256 {Blob("ecdsa-sha2-nistp256", 8, 65)}", true },
        { $"sk-ssh-ed25519@openssh.com {Blob("sk-ssh-ed25519@openssh.com", 32, 4)}", true },
        { null, false },
        { "", false },
        { " " + Key, false },
        { Key + "\n", false },
        { $"{Key}\n{Key}", false },
        { Key + "\r", false },
        { Key + "\0", false },
        { Key + "\u0085", false },
        { Key + "\u2028", false },
        { Key + "\u202e", false },
        { Key + "\ud800", false },
        { $"command=\"sh\" {Key}", false },
        { $"ssh-dss {Blob("ssh-dss", 128)}", false },
        { $"ssh-rsa {Blob("ssh-ed25519", 32)}", false },
        { $"ssh-ed25519  {Blob("ssh-ed25519", 32)}", false },
        { "ssh-ed25519", false },
        { "ssh-ed25519 ", false },
        { "ssh-ed25519 AAAA", false },
        { "ssh-ed25519 not-base64!", false },
        { $"ssh-ed25519 {Blob("ssh-ed25519")}", false },
        { $"ssh-ed25519 {Blob("ssh-ed25519", 32)[..^8]}", false },
        { $"ssh-ed25519 {Convert.ToBase64String([0xFF, 0xFF, 0xFF, 0xFF, 1, 2])}", false },
        { $"-----BEGIN OPENSSH PRIVATE KEY----- {Blob("ssh-ed25519", 32)}", false },
    };

    [Theory]
    [MemberData(nameof(Keys))]
    public async Task Only_public_keys_without_options_may_log_in(string? key, bool isValid)
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        await sandbox.SetSshKeysAsync([Key], default);
        if (isValid)
        {
            await sandbox.SetSshKeysAsync([key!], default);
            Assert.Equal([key!], sandbox.SshKeys);
            return;
        }

        await InvalidAsync("keys", () => sandbox.SetSshKeysAsync([Key, key!], default));
        Assert.Equal([Key], sandbox.SshKeys);
        await InvalidAsync("ssh_keys", () => node.Sandboxes.CreateAsync(new SandboxRequest { SshKeys = [key!] }, default));
    }

    [Fact]
    public async Task Keys_and_public_ports_are_bounded()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        await sandbox.SetSshKeysAsync([.. Enumerable.Repeat(Key, 64)], default);
        await InvalidAsync("keys", () => sandbox.SetSshKeysAsync([.. Enumerable.Repeat(Key, 65)], default));
        await InvalidAsync("keys", () => sandbox.SetSshKeysAsync([$"{Key} {new string('x', 16 * 1024)}"], default));
        Assert.Equal(64, sandbox.SshKeys.Count);
        for (var port = 1; port <= 64; port++)
        {
            await sandbox.SetPublicAsync(port, isPublic: true, default);
        }

        await sandbox.SetPublicAsync(64, isPublic: true, default);
        await InvalidAsync("port", () => sandbox.SetPublicAsync(65, isPublic: true, default));
        await sandbox.SetPublicAsync(1, isPublic: false, default);
        await sandbox.SetPublicAsync(65_535, isPublic: true, default);
        Assert.Equal([.. Enumerable.Range(2, 63), 65_535], sandbox.PublicPorts);
        foreach (var port in new[] { int.MinValue, -1, 0, 65_536 })
        {
            await InvalidAsync("port", () => sandbox.SetPublicAsync(port, isPublic: true, default));
            await InvalidAsync("port", () => sandbox.ConnectPortAsync(port, PortUse.Connect, default));
            await InvalidAsync("public_ports", () => node.Sandboxes.CreateAsync(new SandboxRequest { PublicPorts = [port] }, default));
        }

        await InvalidAsync("public_ports", () => node.Sandboxes.CreateAsync(
            new SandboxRequest { PublicPorts = [.. Enumerable.Range(1, 65)] }, default));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Public_ports_and_keys_survive_the_server(bool isKilled)
    {
        await using var node = new FakeNode();
        var sandbox = (await node.Sandboxes.CreateAsync(
            new SandboxRequest { PublicPorts = [81, 80, 81], SshKeys = [Key] }, default)).Sandbox;
        var other = await CreateAsync(node);
        await other.SetPublicAsync(9000, isPublic: true, default);
        await other.SetSshKeysAsync([Key, Key], default);
        await other.SetSshKeysAsync([], default);
        await node.RestartAsync(isKilled);
        var adopted = node.Sandboxes.Get(sandbox.Id);
        Assert.Equal([80, 81], adopted.PublicPorts);
        Assert.Equal([Key, sandbox.SshHostKey], adopted.SshKeys.Append(adopted.SshHostKey));
        Assert.Equal([9000], node.Sandboxes.Get(other.Id).PublicPorts);
        Assert.Empty(node.Sandboxes.Get(other.Id).SshKeys);
        Assert.True(node.Sandboxes.IsPublic(other.Id, 9000));
        await node.Sandboxes.DeleteAsync(other.Id, complete: true);
        // So that its viewers are told that it is gone.
        Assert.True(node.Sandboxes.IsPublic(other.Id, 9000));
        Assert.False(node.Sandboxes.IsPublic(other.Id, 80));
        Assert.False(node.Sandboxes.IsPublic("nope", 80));
    }

    [Fact]
    public async Task A_request_is_the_same_only_with_the_same_ports_and_keys()
    {
        var first = new SandboxRequest { PublicPorts = [80, 81], SshKeys = [Key, "b"] };
        Assert.Equal(first.Hash(), (first with { PublicPorts = [81, 80, 81] }).Hash());
        Assert.Equal(new SandboxRequest().Hash(), new SandboxRequest { PublicPorts = [], SshKeys = [] }.Hash());
        string[] others =
        [
            new SandboxRequest().Hash(), (first with { PublicPorts = [80] }).Hash(), (first with { SshKeys = [Key] }).Hash(),
            (first with { SshKeys = [$"{Key}\nkey 1:b"] }).Hash(), (first with { PublicPorts = null }).Hash(),
        ];
        Assert.Equal(others.Length, others.Append(first.Hash()).Distinct().Count() - 1);
        await using var node = new FakeNode();
        var request = new SandboxRequest(IdempotencyKey: "once") { PublicPorts = [80] };
        var created = await node.Sandboxes.CreateAsync(request, default);
        Assert.Same(created.Sandbox, (await node.Sandboxes.CreateAsync(request, default)).Sandbox);
        await Assert.ThrowsAsync<PandoraException>(() => node.Sandboxes.CreateAsync(request with { PublicPorts = [81] }, default));
    }

    [Fact]
    public async Task Only_bytes_that_move_are_activity()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        using var listener = Listen(node, sandbox, 80);
        await using var connection = await sandbox.ConnectPortAsync(80, PortUse.Connect, default);
        using var program = await listener.AcceptTcpClientAsync();
        node.Time.Advance(TimeSpan.FromSeconds(100));
        Assert.Equal(100, sandbox.Idle.TotalSeconds);
        await connection.WriteAsync(new byte[1]);
        Assert.Equal(0, sandbox.Idle.TotalSeconds);
        node.Time.Advance(TimeSpan.FromSeconds(100));
        await program.GetStream().WriteAsync(new byte[1]);
        Assert.Equal(0, await connection.ReadAsync(Memory<byte>.Empty));
        Assert.Equal(100, sandbox.Idle.TotalSeconds);
        Assert.Equal(1, await connection.ReadAsync(new byte[9]));
        Assert.Equal(0, sandbox.Idle.TotalSeconds);
        node.Time.Advance(TimeSpan.FromSeconds(100));
        program.Client.Shutdown(SocketShutdown.Send);
        Assert.Equal(0, await connection.ReadAsync(new byte[9]));
        await connection.EndWriteAsync(default);
        Assert.Equal(100, sandbox.Idle.TotalSeconds);
        node.Time.Advance(sandbox.IdleTimeout);
        await node.Sandboxes.ReapAsync();
        Assert.Equal(EndReason.Idle, sandbox.End!.Reason);
    }

    [Fact]
    public async Task Only_so_many_connections_may_be_open()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        using var listener = Listen(node, sandbox, 80);
        node.GuestOf(sandbox.Id).SshServer = (IPEndPoint)listener.LocalEndpoint;
        var open = new List<SandboxStream>();
        for (var i = 0; i < Sandbox.MaxConnections; i++)
        {
            open.Add(i % 2 == 0
                ? await sandbox.ConnectPortAsync(80, i % 4 == 0 ? PortUse.Connect : PortUse.Preview, default)
                : await sandbox.OpenSshAsync(default));
            (await listener.AcceptSocketAsync()).Dispose();
        }

        await FailsAsync(PandoraError.TooManyConnections, () => sandbox.ConnectPortAsync(80, PortUse.Preview, default));
        await FailsAsync(PandoraError.TooManyConnections, () => sandbox.OpenSshAsync(default));
        await open[0].DisposeAsync();
        await open[0].DisposeAsync();
        // A connection that fails takes no place.
        await FailsAsync(PandoraError.PortClosed, () => sandbox.ConnectPortAsync(81, PortUse.Preview, default));
        open.Add(await sandbox.OpenSshAsync(default));
        await FailsAsync(PandoraError.TooManyConnections, () => sandbox.OpenSshAsync(default));
        open.ForEach(c => c.Dispose());
    }

    [Fact]
    public async Task Previews_leave_places_to_other_connections()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        using var listener = Listen(node, sandbox, 80);
        var open = new List<SandboxStream>();
        for (var i = 0; i < Sandbox.MaxPreviews; i++)
        {
            await OpenAsync(PortUse.Preview);
        }

        Assert.Equal(
            $"{Sandbox.MaxPreviews} connections of previews to ports of this sandbox are open, and no more may be at once",
            await RefusalAsync());
        Assert.Equal(Sandbox.MaxPreviews, sandbox.Connections);
        for (var i = Sandbox.MaxPreviews; i < Sandbox.MaxConnections; i++)
        {
            await OpenAsync(PortUse.Connect);
        }

        // One less preview, and one more of the others: the common bound refuses.
        await open[0].DisposeAsync();
        await OpenAsync(PortUse.Connect);
        Assert.Equal(
            $"{Sandbox.MaxConnections} connections to ports of this sandbox are open, and no more may be at once", await RefusalAsync());
        await open[^1].DisposeAsync();
        // What was refused took no place among the previews.
        await OpenAsync(PortUse.Preview);
        open.ForEach(c => c.Dispose());
        Assert.Equal(0, sandbox.Connections);

        async Task OpenAsync(PortUse use)
        {
            open.Add(await sandbox.ConnectPortAsync(80, use, default));
            (await listener.AcceptSocketAsync()).Dispose();
        }

        async Task<string> RefusalAsync()
        {
            var refusal = await Assert.ThrowsAsync<PandoraException>(() => sandbox.ConnectPortAsync(80, PortUse.Preview, default));
            Assert.Equal(PandoraError.TooManyConnections, refusal.Error);
            return refusal.Message;
        }
    }

    [Theory]
    [InlineData("deleted", PandoraError.SandboxNotFound)]
    [InlineData("died", PandoraError.SandboxGone)]
    [InlineData("stopped", PandoraError.ShuttingDown)]
    public async Task The_end_of_the_sandbox_or_the_server_breaks_a_connection_and_is_its_reason(string what, PandoraError error)
    {
        await using var node = new FakeNode();
        await using var clock = node.RunClock();
        var sandbox = await CreateAsync(node);
        using var listener = Listen(node, sandbox, 80);
        await using var connection = await sandbox.ConnectPortAsync(80, PortUse.Connect, default);
        using var program = await listener.AcceptTcpClientAsync();
        var reading = connection.ReadAsync(new byte[1]).AsTask();
        Task ending = what switch
        {
            "deleted" => node.Sandboxes.DeleteAsync(sandbox.Id, complete: false),
            "stopped" => node.StopAsync(keep: true),
            _ => Task.Run(() => node.MachineOf(sandbox.Id).Die("killed")),
        };
        var failure = await Assert.ThrowsAsync<IOException>(() => reading.WaitAsync(TimeSpan.FromMinutes(1), TimeProvider.System));
        Assert.Equal(error, Assert.IsType<PandoraException>(failure.InnerException).Error);
        await Assert.ThrowsAsync<IOException>(() => connection.WriteAsync(new byte[1]).AsTask());
        await ending;
        await FakeNode.UntilAsync(() => program.Client.Poll(0, SelectMode.SelectRead));
    }

    [Fact]
    public async Task A_program_that_breaks_its_connection_is_not_the_end_of_the_sandbox()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        using var listener = Listen(node, sandbox, 80);
        await using var connection = await sandbox.ConnectPortAsync(80, PortUse.Connect, default);
        using (var program = await listener.AcceptSocketAsync())
        {
            program.LingerState = new LingerOption(enable: true, seconds: 0);
        }

        var failure = await Assert.ThrowsAsync<IOException>(() => connection.ReadAsync(new byte[1]).AsTask());
        Assert.IsNotType<PandoraException>(failure.InnerException);
        Assert.Null(sandbox.End);
    }

    [Fact]
    public async Task Ports_are_listed_by_number_with_those_that_are_public()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        using var listener = Listen(node, sandbox, 3000);
        await sandbox.SetPublicAsync(80, isPublic: true, default);
        await sandbox.SetPublicAsync(3000, isPublic: true, default);
        using var other = Listen(node, sandbox, 22);
        var ports = await sandbox.ListPortsAsync(default);
        Assert.Equal([(22, 1, false, 122), (80, 0, true, null), (3000, 1, true, 3100)],
            ports.Select(p => (p.Port, p.Addresses.Count, p.IsPublic, p.Pid)));
    }

    private static string Blob(string type, params int[] parts)
    {
        IEnumerable<byte> bytes = [0, 0, 0, (byte)type.Length, .. Encoding.ASCII.GetBytes(type)];
        return Convert.ToBase64String([.. bytes, .. parts.SelectMany(p => (byte[])[0, 0, (byte)(p >> 8), (byte)p, .. new byte[p]])]);
    }

    private static TcpListener Listen(FakeNode node, Sandbox sandbox, int port)
    {
        var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        node.GuestOf(sandbox.Id).Ports[port] = (IPEndPoint)listener.LocalEndpoint;
        return listener;
    }

    private static async Task<Sandbox> CreateAsync(FakeNode node) =>
        (await node.Sandboxes.CreateAsync(new SandboxRequest(IdleTimeout: 600), default)).Sandbox;

    private static async Task InvalidAsync(string field, Func<Task> act)
    {
        var failure = await Assert.ThrowsAsync<PandoraException>(act);
        Assert.Equal((PandoraError.InvalidRequest, field), (failure.Error, failure.Field));
    }

    private static async Task FailsAsync(PandoraError error, Func<Task> act) =>
        Assert.Equal(error, (await Assert.ThrowsAsync<PandoraException>(act)).Error);
}
