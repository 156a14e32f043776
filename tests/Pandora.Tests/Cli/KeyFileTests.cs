using System.Diagnostics;
using System.Text.Json;
using Pandora.Cli;
using static Pandora.Tests.Cli.CliProcess;

namespace Pandora.Tests.Cli;

/// <summary>The key that the command line finds on the server's host: when it is sent, and when not.</summary>
public sealed class KeyFileTests : IDisposable
{
    private const string Key = "pandora-a-key-of-the-host";
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-key-").FullName;

    private string File => Path.Combine(_directory, "cli.key");

    private Dictionary<string, string> Settings => new() { ["PANDORA_DATA_DIR"] = _directory };

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData("http://localhost:8000", true)]
    [InlineData("http://LOCALHOST", true)]
    [InlineData("https://127.0.0.1/pandora", true)]
    [InlineData("http://127.8.9.10:1", true)]
    [InlineData("http://127.1", true)]
    [InlineData("http://[::1]:8000", true)]
    [InlineData("http://loopback", true)] // System.Uri makes localhost of it, and so a request goes there
    [InlineData("http://localhost.example.com", false)]
    [InlineData("http://127.0.0.1.example.com", false)]
    [InlineData("http://127.0.0.1@192.0.2.1", false)]
    [InlineData("http://0.0.0.0:8000", false)]
    [InlineData("http://[::]:8000", false)]
    [InlineData("http://192.0.2.1", false)]
    [InlineData("http://[::1%25eth0]", true)]
    [InlineData("http://[fe80::1]", false)]
    public void Loopback_is_an_address_and_one_name(string url, bool isLoopback) =>
        Assert.Equal(isLoopback, KeyFile.IsLoopback(new Uri(url)));

    [Theory]
    [InlineData("127.0.0.1")]
    [InlineData("localhost")]
    public async Task It_is_sent_to_this_host_and_not_shown(string host)
    {
        await WriteAsync($" {Key}\n");
        await using var server = new OneAnswerServer(200, "[]");
        var url = server.Url.Replace("127.0.0.1", host, StringComparison.Ordinal);
        Assert.Equal((0, "[]\n", ""), await RunAsync(["--url", url, "--json", "ls"], Settings));
        Assert.Contains($"Authorization: Bearer {Key}\r\n", server.LastRequest);
    }

    [Fact]
    public async Task The_key_of_the_environment_takes_precedence()
    {
        await WriteAsync(Key);
        await using var server = new OneAnswerServer(200, "[]");
        await RunAsync(["--url", server.Url, "ls"], new Dictionary<string, string>(Settings) { ["PANDORA_API_KEY"] = "another" });
        Assert.Contains("Authorization: Bearer another\r\n", server.LastRequest);
        await RunAsync(["--url", server.Url, "ls"], new Dictionary<string, string>(Settings) { ["PANDORA_API_KEY"] = "" });
        Assert.Contains($"Authorization: Bearer {Key}\r\n", server.LastRequest);
    }

    [Fact]
    public async Task No_other_address_gets_it()
    {
        await WriteAsync(Key);
        // The proxy stands for the other host.
        await using var proxy = new OneAnswerServer(200, "[]");
        var settings = new Dictionary<string, string>(Settings) { ["http_proxy"] = proxy.Url };
        Assert.Equal(0, (await RunAsync(["--url", "http://host.example", "ls"], settings)).ExitCode);
        Assert.Contains("GET http://host.example/sandboxes", proxy.LastRequest);
        Assert.DoesNotContain("Authorization", proxy.LastRequest);
    }

    [Fact]
    public async Task A_proxy_does_not_get_it()
    {
        await WriteAsync(Key);
        await using var proxy = new OneAnswerServer(200, "[]");
        await using var server = new OneAnswerServer(200, "[]");
        var settings = new Dictionary<string, string>(Settings) { ["http_proxy"] = proxy.Url, ["all_proxy"] = proxy.Url };
        Assert.Equal((0, "", ""), await RunAsync(["--url", server.Url, "ls"], settings));
        Assert.Equal("", proxy.LastRequest);
        Assert.Contains(Key, server.LastRequest);
    }

    [Theory]
    [InlineData("chmod 640 cli.key", "is open to other users: 'chmod 600' closes it")]
    [InlineData("chmod 604 cli.key", "is open to other users: 'chmod 600' closes it")]
    [InlineData("mv cli.key other; ln -s other cli.key", "is not a regular file")]
    [InlineData("rm cli.key; mkfifo -m 600 cli.key", "is not a regular file")]
    [InlineData("rm cli.key; mkdir -m 700 cli.key", "is not a regular file")]
    [InlineData(": > cli.key", "is not one line with a key")]
    [InlineData("echo another >> cli.key", "is not one line with a key")]
    [InlineData("head -c 5000 /dev/zero > cli.key", "is not one line with a key")]
    public async Task A_file_that_another_may_have_written_or_read_is_ignored_with_a_warning(string change, string words)
    {
        await WriteAsync($"{Key}\n");
        await ChangeAsync(change);
        await using var server = new OneAnswerServer(200, "[]");
        Assert.Equal((0, "", $"pandora: {File} is ignored: it {words}\n"), await RunAsync(["--url", server.Url, "ls"], Settings));
        Assert.DoesNotContain("Authorization", server.LastRequest);
        var (exitCode, output, error) = await RunAsync(["--url", server.Url, "--json", "ls"], Settings);
        Assert.Equal((0, "[]\n"), (exitCode, output));
        Assert.Equal("key_file_ignored", JsonDocument.Parse(error).RootElement.GetProperty("code").GetString());
    }

    [Fact]
    public async Task A_file_of_another_user_is_ignored_with_a_warning()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "only root can give a file away");
        await WriteAsync(Key);
        await ChangeAsync("chown 65534 cli.key");
        await using var server = new OneAnswerServer(200, "[]");
        Assert.Equal(
            (0, "", $"pandora: {File} is ignored: it is owned by user 65534, and not by root or by you\n"),
            await RunAsync(["--url", server.Url, "ls"], Settings));
        Assert.DoesNotContain("Authorization", server.LastRequest);
    }

    [Fact]
    public async Task Without_a_file_that_this_user_can_read_there_is_no_key_and_no_word()
    {
        await using var server = new OneAnswerServer(200, "[]");
        Assert.Equal((0, "", ""), await RunAsync(["--url", server.Url, "ls"], Settings));
        Assert.DoesNotContain("Authorization", server.LastRequest);
        await WriteAsync(Key);
        await ChangeAsync("chmod 000 cli.key");
        // Root reads every file by two capabilities.
        string[] user = Environment.IsPrivilegedProcess ? ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] : ["env"];
        using var process = Process.Start(new ProcessStartInfo(user[0], [.. user[1..], Executable, "--url", server.Url, "ls"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            Environment = { ["PANDORA_DATA_DIR"] = _directory },
        })!;
        Assert.Equal((0, "", ""), await EndAsync(process));
        Assert.DoesNotContain("Authorization", server.LastRequest);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_server_that_wants_a_key_is_answered_with_the_next_step(bool hasKey)
    {
        const string Hint = "set PANDORA_API_KEY to a key that an operator makes with './pandora key create --project P' on the server's "
            + "host; as root on that host no key is needed";
        if (hasKey)
        {
            await WriteAsync(Key);
        }

        await using var server = new OneAnswerServer(401, """{"status":401,"detail":"send a key","code":"unauthorized"}""");
        Assert.Equal((125, "", $"pandora: send a key\npandora: hint: {Hint}\n"), await RunAsync(["--url", server.Url, "ls"], Settings));
        var (exitCode, output, error) = await RunAsync(["--url", server.Url, "--json", "create"], Settings);
        Assert.Equal((125, ""), (exitCode, output));
        var problem = JsonDocument.Parse(error).RootElement;
        Assert.Equal(("unauthorized", Hint), (problem.GetProperty("code").GetString(), problem.GetProperty("hint").GetString()));
    }

    private async Task WriteAsync(string text)
    {
        await System.IO.File.WriteAllTextAsync(File, text);
        System.IO.File.SetUnixFileMode(File, UnixFileMode.UserRead | UnixFileMode.UserWrite);
    }

    private async Task ChangeAsync(string command)
    {
        using var shell = Process.Start(new ProcessStartInfo("sh", ["-euc", command]) { WorkingDirectory = _directory })!;
        await shell.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, shell.ExitCode);
    }
}
