using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Pandora.Agent.Ports;
using Pandora.Agent.Protocol.Ports;
using Pandora.Engine.Guests;
using Pandora.Fakes;

namespace Pandora.Tests.Ports;

/// <summary>
/// The agent starts the SSH server: this machine's, where it has one and the test is root, with the distribution's client.
/// </summary>
public sealed class AgentSshTests : IAsyncDisposable
{
    private const string OwnHostKey = "/etc/pandora/host_key";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private readonly string _root = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly GuestIdentity _identity = GuestIdentity.Create("0123456789");
    private readonly PortTalk _talk;
    private Socket? _listener;

    public AgentSshTests()
    {
        // The server reads the keys with the rights of the user who logs in.
        File.SetUnixFileMode(_root, (UnixFileMode)0b111_101_101);
        File.WriteAllBytes($"{_root}/dropbear", _identity.HostKeyFile);
        _talk = new PortTalk(PortTalk.IsProgram ? null : loop => new GuestPorts(loop, new SshServer(loop, Files(), AgentSsh.Start)));
    }

    public async ValueTask DisposeAsync()
    {
        _listener?.Dispose();
        await _talk.DisposeAsync();
        Directory.Delete(_root, recursive: true);
    }

    private SshFiles Files(string program = "/usr/sbin/sshd") => new()
    {
        Program = program,
        HostKey = $"{_root}/dropbear",
        Directory = $"{_root}/ssh",
        Empty = program == "/usr/sbin/sshd" && File.Exists(program) ? "/run/sshd" : $"{_root}/empty",
    };

    [Fact]
    public async Task The_host_key_is_the_same_in_the_format_of_OpenSSH()
    {
        RequireProgram("/usr/bin/ssh-keygen");
        var path = $"{_root}/key";
        File.WriteAllBytes(path, OpenSshKey.Convert(_identity.HostKeyFile));
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        var (code, output) = await RunAsync("ssh-keygen", "-y", "-f", path);
        Assert.Equal((0, $"ssh-ed25519 {Convert.ToBase64String(_identity.HostKey)}"), (code, output.Trim()));
    }

    [Fact]
    public void What_is_no_key_is_not_converted()
    {
        var key = _identity.HostKeyFile;
        Assert.Throws<FormatException>(() => OpenSshKey.Convert([]));
        Assert.Throws<FormatException>(() => OpenSshKey.Convert(key.AsSpan(0, key.Length - 1)));
        Assert.Throws<FormatException>(() => OpenSshKey.Convert([.. key, 0]));
        Assert.Throws<FormatException>(() => OpenSshKey.Convert([255, 255, 255, 255, 1]));
        byte[] other = [.. key];
        other[4] = (byte)'x';
        Assert.Throws<FormatException>(() => OpenSshKey.Convert(other));
    }

    [Fact]
    public void The_files_have_the_rights_that_the_server_needs_and_go_with_the_last_user()
    {
        var files = Files("/nonexistent/sshd");
        Directory.CreateDirectory($"{_root}/ssh");
        File.WriteAllText($"{_root}/ssh/keys-{int.MaxValue}-1", "of an agent that died");
        var (first, second, third) = (files.Prepare(["a", "b"]), files.Prepare(["a", "b"]), files.Prepare([]));
        Assert.Equal(first.Path, second.Path);
        Assert.Equal("a\nb\n", File.ReadAllText(first.Path));
        Assert.Equal("", File.ReadAllText(third.Path));
        Assert.Equal((UnixFileMode)0b110_100_100, File.GetUnixFileMode(first.Path));
        Assert.Equal((UnixFileMode)0b110_000_000, File.GetUnixFileMode($"{_root}/ssh/host_key"));
        first.Release();
        Assert.True(File.Exists(second.Path));
        second.Release();
        third.Release();
        Assert.Equal(["host_key", "sshd_config"], Names());
        // A resume has replaced the key.
        var renewed = GuestIdentity.Create("9876543210");
        File.WriteAllBytes($"{_root}/dropbear", renewed.HostKeyFile);
        files.Prepare([]).Release();
        Assert.Equal(OpenSshKey.Convert(renewed.HostKeyFile), File.ReadAllBytes($"{_root}/ssh/host_key"));
    }

    [Fact]
    public async Task A_guest_without_an_SSH_server_says_so()
    {
        await using var talk = new PortTalk(loop => new GuestPorts(loop, PortTalk.NoSsh(loop)));
        var wire = await talk.AskAsync(PortMessage.Ssh, new SshRequest([]).Encode());
        var failure = await wire.ExpectFailureAsync(PortFailureKind.NoSshServer);
        Assert.Contains("openssh-server", failure.Reason, StringComparison.Ordinal);
        await talk.WaitUntilIdleAsync();
    }

    [Fact]
    public async Task A_server_that_says_nothing_or_cannot_start_is_a_failure_of_the_guest()
    {
        foreach (var program in new[] { "/bin/true", "/etc/passwd" })
        {
            await using var talk = new PortTalk(loop => new GuestPorts(loop, new SshServer(loop, Files(program), AgentSsh.Start)));
            var wire = await talk.AskAsync(PortMessage.Ssh, new SshRequest([]).Encode());
            if (program == "/bin/true")
            {
                await wire.ExpectAsync(PortMessage.Opened);
            }

            await wire.ExpectFailureAsync(PortFailureKind.Guest);
            await talk.WaitUntilIdleAsync();
            Assert.Equal(["host_key", "sshd_config"], Names());
        }
    }

    [Fact]
    public async Task A_host_key_that_never_ends_or_is_none_is_a_failure_of_the_guest()
    {
        File.Delete($"{_root}/dropbear");
        await Tests.Files.AgentReadTests.MakeFifoAsync($"{_root}/dropbear");
        await using var talk = new PortTalk(loop => new GuestPorts(loop, new SshServer(loop, Files("/bin/true"), AgentSsh.Start)));
        var failure = await (await talk.AskAsync(PortMessage.Ssh, new SshRequest([]).Encode())).ExpectFailureAsync(PortFailureKind.Guest);
        Assert.Contains("host key", failure.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_distributions_client_logs_in_and_runs_commands()
    {
        var bridge = await StartRealAsync();
        var (code, output) = await SshAsync(bridge, "echo $USER; cat | tr a-z A-Z; exit 7", "input");
        Assert.True((7, "root\nINPUT") == (code, output.Trim()), output);
        await _talk.WaitUntilIdleAsync();
        // What was started in the session lives on after its end.
        (code, output) = await SshAsync(bridge, "nohup sleep 20 > /dev/null 2>&1 & echo $!");
        Assert.True(code == 0, output);
        var pid = int.Parse(output, System.Globalization.CultureInfo.InvariantCulture);
        await _talk.WaitUntilIdleAsync();
        using var left = Process.GetProcessById(pid);
        Assert.Equal("sleep", left.ProcessName);
        left.Kill();
    }

    [Fact]
    public async Task Only_those_with_a_key_log_in_and_only_the_pinned_host_key_is_believed()
    {
        var bridge = await StartRealAsync();
        await MakeKeyAsync("other");
        var (code, output) = await SshAsync(bridge, "true", key: "other");
        Assert.True(code == 255 && output.Contains("Permission denied (publickey)", StringComparison.Ordinal), output);
        await File.WriteAllTextAsync(
            $"{_root}/known", $"guest ssh-ed25519 {Convert.ToBase64String(GuestIdentity.Create("9876543210").HostKey)}\n");
        (code, output) = await SshAsync(bridge, "true");
        Assert.True(code == 255 && output.Contains("Host key verification failed", StringComparison.Ordinal), output);
    }

    [Fact]
    public async Task An_ordinary_user_without_a_password_logs_in_with_the_same_keys()
    {
        var bridge = await StartRealAsync();
        var user = File.ReadLines("/etc/passwd").Select(l => l.Split(':'))
            .FirstOrDefault(f => f.Length == 7 && int.TryParse(f[2], out var id) && id is >= 1000 and < 60_000 && f[6] == "/bin/bash");
        Assert.SkipWhen(user is null, "this machine has no ordinary user");
        var (code, output) = await SshAsync(bridge, "id -u", user: user[0]);
        Assert.True((0, user[2]) == (code, output.Trim()), output);
    }

    [Fact]
    public async Task Files_pass_by_sftp_and_a_terminal_is_to_be_had()
    {
        var bridge = await StartRealAsync();
        RequireProgram("/usr/bin/sftp");
        await File.WriteAllTextAsync($"{_root}/file", "content");
        await File.WriteAllTextAsync($"{_root}/batch", $"put {_root}/file {_root}/copy\n");
        var (code, output) = await RunAsync("sftp", [.. Options(bridge, "key"), "-b", $"{_root}/batch", "root@guest"]);
        Assert.True(code == 0, output);
        Assert.Equal("content", await File.ReadAllTextAsync($"{_root}/copy"));
        (code, output) = await RunAsync("ssh", ["-tt", .. Options(bridge, "key"), "root@guest", "tty"]);
        Assert.True(code == 0 && output.Contains("/dev/pts/", StringComparison.Ordinal), output);
    }

    private string[] Names() => [.. Directory.GetFiles($"{_root}/ssh").Select(p => Path.GetFileName(p)!).Order(StringComparer.Ordinal)];

    private static void RequireProgram(string path) => Assert.SkipUnless(File.Exists(path), $"this machine has no {path}");

    // A listener that carries each connection to a server of its own: what the ProxyCommand connects to.
    private async Task<int> StartRealAsync()
    {
        RequireProgram("/usr/sbin/sshd");
        RequireProgram("/usr/bin/ssh");
        RequireProgram("/usr/bin/python3");
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "only root can start an SSH server for all users");
        await MakeKeyAsync("key");
        var hostKey = _identity.HostKey;
        if (PortTalk.IsProgram)
        {
            // The program has the guest's own key, which ends with the public one.
            RequireProgram(OwnHostKey);
            hostKey = [.. hostKey[..^32], .. (await File.ReadAllBytesAsync(OwnHostKey))[^32..]];
        }

        await File.WriteAllTextAsync($"{_root}/known", $"guest ssh-ed25519 {Convert.ToBase64String(hostKey)}\n");
        _listener = AgentConnectTests.Listen(IPAddress.Loopback);
        var keys = new[] { (await File.ReadAllTextAsync($"{_root}/key.pub")).Trim() };
        _ = Task.Run(async () =>
        {
            while (true)
            {
                var client = await _listener.AcceptAsync();
                var wire = await _talk.AskAsync(PortMessage.Ssh, new SshRequest(keys).Encode());
                await wire.ExpectAsync(PortMessage.Opened);
                _ = Task.WhenAll(UpAsync(client, wire), DownAsync(client, wire));
            }
        });
        return AgentConnectTests.PortOf(_listener);
    }

    private static async Task UpAsync(Socket client, PortWire wire)
    {
        var buffer = new byte[PortMessages.MaxBody];
        for (int count; (count = await client.ReceiveAsync(buffer)) > 0;)
        {
            await wire.SendAsync(PortMessage.Write, buffer.AsMemory(0, count));
        }

        await wire.SendAsync(PortMessage.EndWrite);
    }

    private static async Task DownAsync(Socket client, PortWire wire)
    {
        while (await wire.ReadAsync() is { Kind: PortMessage.Read } message)
        {
            await client.SendAsync(message.Body);
        }

        client.Shutdown(SocketShutdown.Send);
    }

    private async Task MakeKeyAsync(string name)
    {
        var (code, output) = await RunAsync("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", $"{_root}/{name}");
        Assert.True(code == 0, output);
    }

    private string[] Options(int bridge, string key) =>
    [
        "-F", "none", "-i", $"{_root}/{key}", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", $"UserKnownHostsFile={_root}/known",
        "-o", "StrictHostKeyChecking=yes", "-o", $"ProxyCommand=python3 {Bridge()} {bridge}",
    ];

    private Task<(int Code, string Output)> SshAsync(
        int bridge, string command, string input = "", string key = "key", string user = "root") =>
        RunAsync("ssh", [.. Options(bridge, key), $"{user}@guest", command], input);

    private string Bridge()
    {
        var path = $"{_root}/bridge.py";
        File.WriteAllText(path, """
            import os, socket, sys, threading
            s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
            def up():
                while data := os.read(0, 65536):
                    s.sendall(data)
                s.shutdown(socket.SHUT_WR)
            threading.Thread(target=up, daemon=True).start()
            while data := s.recv(65536):
                os.write(1, data)
            """);
        return path;
    }

    private static Task<(int Code, string Output)> RunAsync(string program, params string[] arguments) => RunAsync(program, arguments, "");

    private static async Task<(int Code, string Output)> RunAsync(string program, string[] arguments, string input)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        var output = Task.WhenAll(process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        await process.StandardInput.WriteAsync(input);
        process.StandardInput.Close();
        var texts = await output.WaitAsync(Patience);
        await process.WaitForExitAsync().WaitAsync(Patience);
        return (process.ExitCode, texts[0] + texts[1]);
    }
}
