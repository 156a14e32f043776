using System.Diagnostics;
using Pandora.Cli;
using Pandora.Cli.Ssh;
using Pandora.Tests.Client.Ports;
using static Pandora.Tests.Cli.CliProcess;

namespace Pandora.Tests.Cli.Ssh;

/// <summary><c>ssh</c> and <c>ssh-config</c>, with the system's programs of SSH.</summary>
public sealed class SshConfigTests : IAsyncLifetime
{
    private const string Key = "pandora-secret-key-of-the-api";

    // What a configuration and a shell could trip over.
    private readonly string _home = Directory.CreateTempSubdirectory("pandora ssh 100% 'q' \"d\" \\b ").FullName;
    private PortsServer _server = null!;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private string Ssh => Path.Combine(_home, "pandora/ssh");

    private string ConfigFile => Path.Combine(Ssh, $"{PortsServer.Id}.config");

    public async ValueTask InitializeAsync() => _server = await PortsServer.StartAsync(Key);

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        Directory.Delete(_home, recursive: true);
    }

    [Fact]
    public async Task The_block_is_what_ssh_reads()
    {
        Need("ssh");
        var (exitCode, block, error) = await PandoraAsync("ssh-config", PortsServer.Id, "-l", "alice");
        Assert.Equal((0, ""), (exitCode, error));
        Assert.Equal(block, await File.ReadAllTextAsync(ConfigFile, Token));
        var (code, output, words) = await ProgramAsync("ssh", "-T", "-G", "-F", ConfigFile, $"pandora-{PortsServer.Id}");
        Assert.Equal((0, ""), (code, words));
        var parsed = output.Split('\n');
        Assert.Superset(
            new HashSet<string>
            {
                "user alice",
                // Which ssh shows as it is written.
                $"identityfile {Ssh.Replace("%", "%%", StringComparison.Ordinal)}/id_ed25519",
                $"userknownhostsfile {Ssh}/{PortsServer.Id}.known_hosts",
                $"hostkeyalias pandora-{PortsServer.Id}",
                "hostkeyalgorithms ssh-ed25519",
                "identitiesonly yes",
                "identityagent none",
                "forwardagent no",
                "stricthostkeychecking true",
            },
            parsed.ToHashSet());
        var proxy = Assert.Single(parsed, l => l.StartsWith("proxycommand ", StringComparison.Ordinal));
        Assert.StartsWith($"proxycommand env PANDORA_URL={_server.Url}/ ", proxy, StringComparison.Ordinal);
        Assert.EndsWith($"/pandora-cli ssh {PortsServer.Id} --stdio", proxy, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_files_are_the_users_alone_have_no_key_of_the_API_and_pin_the_host_key()
    {
        Need("ssh-keygen");
        Assert.Equal(0, (await PandoraAsync("ssh-config", PortsServer.Id)).ExitCode);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(Ssh));
        Assert.Equal(
            [$"{PortsServer.Id}.config", $"{PortsServer.Id}.known_hosts", "id_ed25519", "id_ed25519.pub"],
            Directory.GetFiles(Ssh).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        foreach (var file in Directory.GetFiles(Ssh))
        {
            Assert.DoesNotContain(Key, await File.ReadAllTextAsync(file, Token), StringComparison.Ordinal);
            Assert.True(
                File.GetUnixFileMode(file) == (UnixFileMode.UserRead | UnixFileMode.UserWrite)
                || file.EndsWith(".pub", StringComparison.Ordinal), file);
        }

        Assert.Equal(
            $"pandora-{PortsServer.Id} {PortsServer.HostKey}\n",
            await File.ReadAllTextAsync(Path.Combine(Ssh, $"{PortsServer.Id}.known_hosts"), Token));
    }

    [Fact]
    public async Task The_key_pair_is_made_once_and_the_public_key_is_added_to_those_there_are()
    {
        Need("ssh-keygen");
        _server.SshKeys = ["ssh-ed25519 AAAA other"];
        await Task.WhenAll(PandoraAsync("ssh-config", PortsServer.Id), PandoraAsync("ssh-config", PortsServer.Id));
        var key = (await File.ReadAllTextAsync(Path.Combine(Ssh, "id_ed25519.pub"), Token)).Trim();
        Assert.StartsWith("ssh-ed25519 ", key, StringComparison.Ordinal);
        var puts = _server.Requests.Count(r => r.StartsWith("PUT", StringComparison.Ordinal));
        File.Delete(Path.Combine(Ssh, "id_ed25519.pub"));
        var (exitCode, output, _) = await PandoraAsync("ssh-config", PortsServer.Id, "--json");
        Assert.Equal(0, exitCode);
        Assert.Contains($"\"host\":\"pandora-{PortsServer.Id}\"", output, StringComparison.Ordinal);
        Assert.Equal(puts, _server.Requests.Count(r => r.StartsWith("PUT", StringComparison.Ordinal)));
        Assert.Equal(["ssh-ed25519 AAAA other", key], _server.SshKeys);
    }

    [Fact]
    public async Task Files_of_sandboxes_that_ended_and_old_ones_are_removed()
    {
        Need("ssh-keygen");
        await PandoraAsync("ssh-config", PortsServer.Id);
        async Task WriteAsync(string id, string server, int days)
        {
            foreach (var name in new[] { $"{id}.config", $"{id}.known_hosts" })
            {
                var path = Path.Combine(Ssh, name);
                await File.WriteAllTextAsync(path, $"{SshConfig.ServerMark}{server}/\n", Token);
                File.SetLastWriteTimeUtc(path, TimeProvider.System.GetUtcNow().UtcDateTime.AddDays(-days));
            }
        }

        await WriteAsync("ended", _server.Url, 1);
        await WriteAsync("elsewhere", "http://other", 29);
        await WriteAsync("old", "http://other", 31);
        await PandoraAsync("ssh-config", PortsServer.Id);
        Assert.Equal(
            [$"{PortsServer.Id}.config", "elsewhere.config"],
            Directory.GetFiles(Ssh, "*.config").Select(Path.GetFileName).Order(StringComparer.Ordinal));

        _server.End("the sandbox was deleted");
        var (exitCode, output, error) = await PandoraAsync("ssh-config", PortsServer.Id);
        Assert.Equal((125, "", "pandora: the sandbox was deleted\n"), (exitCode, output, error));
        Assert.False(File.Exists(ConfigFile));
    }

    [Fact]
    public async Task A_host_key_that_is_none_is_written_nowhere()
    {
        Need("ssh-keygen");
        _server.SshHostKey = "ssh-ed25519 AAAA\n* ssh-ed25519 BBBB";
        var (exitCode, _, error) = await PandoraAsync("ssh-config", PortsServer.Id);
        Assert.Equal(125, exitCode);
        Assert.Contains("host key", error, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(Ssh, "*.known_hosts"));
    }

    [Fact]
    public async Task Ssh_runs_the_proxy_command_with_each_word_as_it_is()
    {
        Need("ssh");
        Directory.CreateDirectory(Ssh);
        var (program, words) = (Path.Combine(_home, "a program %h"), Path.Combine(_home, "words"));
        await File.WriteAllTextAsync(
            program, "#!/bin/sh\nfor w in \"$PANDORA_URL\" \"$OTHER\" \"$@\"; do echo \"$w\" >> \"$WORDS\"; done\n", Token);
        File.SetUnixFileMode(program, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        var config = Path.Combine(_home, "config");
        await File.WriteAllTextAsync(
            config,
            SshConfig.Write(
                "abc", new Uri("http://host/p%20q"), "root", Path.Combine(Ssh, "none"), Path.Combine(Ssh, "none"), [program],
                new Dictionary<string, string> { ["PANDORA_URL"] = "http://host/p%20q", ["OTHER"] = "a 'b' $c", ["WORDS"] = words }),
            Token);
        Assert.Equal(255, (await ProgramAsync("ssh", "-F", config, "pandora-abc")).ExitCode);
        Assert.Equal(
            ["http://host/p%20q", "a 'b' $c", "ssh", "abc", "--stdio"], await File.ReadAllLinesAsync(words, Token));
        Assert.Throws<UsageException>(() => SshConfig.Write("abc", new Uri("http://host"), "root", "/a\nb", "/b", ["c"], []));
        Assert.Throws<UsageException>(() => SshConfig.Write("abc", new Uri("http://host"), "root", "/${HOME}", "/b", ["c"], []));
    }

    [Fact]
    public async Task Ssh_reaches_the_sandboxs_server_through_the_proxy_command_and_its_exit_code_is_passed_on()
    {
        Need("ssh");
        var greeting = new TaskCompletionSource<string>();
        using var _ = _server.Listen(22, async socket =>
        {
            using var reader = new StreamReader(new System.Net.Sockets.NetworkStream(socket));
            greeting.SetResult(await reader.ReadLineAsync() ?? "");
        });
        _server.Ssh = () =>
        {
            var client = new System.Net.Sockets.TcpClient("127.0.0.1", _server.Guest[22]);
            return client.GetStream();
        };
        var (exitCode, output, error) = await PandoraAsync("ssh", PortsServer.Id, "--", "true");
        Assert.Equal((255, ""), (exitCode, output));
        Assert.StartsWith("SSH-2.0-OpenSSH", await greeting.Task.WaitAsync(Limit, Token), StringComparison.Ordinal);
        Assert.DoesNotContain(Key, error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_command_runs_by_ssh_and_its_output_and_exit_code_come_back()
    {
        Need("ssh");
        var sshd = SshServer.Find();
        Assert.SkipUnless(sshd is not null, "no sshd that could run here: it needs openssh-server, its user sshd, and root");
        await using var server = await SshServer.StartAsync(sshd, () => _server.SshKeys);
        (_server.SshHostKey, _server.Ssh) = (server.HostKey, server.Connect);
        var (exitCode, output, error) = await PandoraAsync("ssh", PortsServer.Id, "--", "sh", "-c", "echo \"$1\"; exit 3", "x", "a  b");
        Assert.Equal((3, "a  b\n", ""), (exitCode, output, error));

        var file = Path.Combine(_home, "file");
        await File.WriteAllBytesAsync(file, new byte[3_000_000], Token);
        using (var copy = StartProgram("scp", "-F", ConfigFile, file, $"pandora-{PortsServer.Id}:{_home}/copy"))
        {
            copy.StandardInput.Close();
            (exitCode, _, error) = await EndAsync(copy);
        }

        Assert.Equal((0, ""), (exitCode, error));
        Assert.Equal(3_000_000, new FileInfo(Path.Combine(_home, "copy")).Length);
    }

    private static void Need(string program) =>
        Assert.SkipUnless(
            Environment.GetEnvironmentVariable("PATH")!.Split(':').Any(d => File.Exists(Path.Combine(d, program))),
            $"{program} is not installed (package openssh-client)");

    private async Task<(int ExitCode, string Output, string Error)> PandoraAsync(params string[] arguments) => await RunAsync(
        arguments,
        new Dictionary<string, string> { ["PANDORA_URL"] = _server.Url, ["PANDORA_API_KEY"] = Key, ["XDG_CONFIG_HOME"] = _home });

    private static async Task<(int ExitCode, string Output, string Error)> ProgramAsync(params string[] words)
    {
        using var process = StartProgram(words);
        process.StandardInput.Close();
        return await EndAsync(process);
    }

    private static Process StartProgram(params string[] words) => Process.Start(new ProcessStartInfo(words[0], words[1..])
    {
        RedirectStandardInput = true,
        RedirectStandardOutput = true,
        RedirectStandardError = true,
        Environment = { ["PANDORA_API_KEY"] = Key },
    })!;
}
