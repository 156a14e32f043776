using ModelContextProtocol.Protocol;
using Pandora.Cli;
using Pandora.Cli.Mcp;
using Pandora.Engine.Guests.Agent;
using Pandora.Fakes;

namespace Pandora.Tests.Cli.Mcp;

/// <summary>Files of this machine: what an agent may read and write, and what not.</summary>
public sealed class LocalToolTests : IDisposable
{
    private readonly string _base = Directory.CreateTempSubdirectory("pandora-local-").FullName;
    private readonly string _allowed;

    public LocalToolTests()
    {
        _allowed = Directory.CreateDirectory($"{_base}/allowed").FullName;
        Directory.CreateDirectory($"{_base}/allowed-too");
        File.WriteAllText($"{_base}/secret", "secret");
        File.WriteAllText($"{_base}/allowed-too/secret", "secret");
        File.WriteAllText($"{_allowed}/own", "own");
        Directory.CreateDirectory($"{_allowed}/dir");
        File.CreateSymbolicLink($"{_allowed}/file-link", $"{_base}/secret");
        File.CreateSymbolicLink($"{_allowed}/out", _base);
        File.CreateSymbolicLink($"{_allowed}/in", "dir");
        File.CreateSymbolicLink($"{_allowed}/loop", "loop");
    }

    public void Dispose() => Directory.Delete(_base, recursive: true);

    [Theory]
    [InlineData("own", "own")]
    [InlineData("ALLOWED/own", "own")]
    [InlineData("dir/../own", "own")]
    [InlineData("in/new", "dir/new")]
    [InlineData("out/allowed/own", "own")]
    [InlineData("./dir//new", "dir/new")]
    [InlineData(".", "")]
    public void A_path_that_leads_into_the_directory_is_found(string path, string found) =>
        Assert.Equal($"{_allowed}/{found}".TrimEnd('/'), new AllowedDirectories([_allowed]).Find(Real(path)));

    [Theory]
    [InlineData("")]
    [InlineData("/")]
    [InlineData("/etc/passwd")]
    [InlineData("..")]
    [InlineData("../secret")]
    [InlineData("dir/../../secret")]
    [InlineData("file-link")]
    [InlineData("out/secret")]
    [InlineData("in/../../secret")]
    [InlineData("loop")]
    [InlineData("a\0b")]
    [InlineData("ALLOWED-too/secret")]
    [InlineData("/proc/self/root/etc/passwd")]
    public void A_path_that_leads_out_is_not(string path) => Assert.Null(new AllowedDirectories([_allowed]).Find(Real(path)));

    [Fact]
    public void A_link_is_followed_before_the_parent_is_taken()
    {
        // 'out/..' is the parent of where it leads.
        Assert.Null(new AllowedDirectories([_allowed]).Find("out/../own"));
    }

    [Fact]
    public void A_directory_that_is_missing_is_a_mistake_of_the_user() =>
        Assert.Throws<UsageException>(() => new AllowedDirectories([$"{_base}/none"]));

    [Fact]
    public async Task Files_are_copied_both_ways()
    {
        Assert.SkipUnless(
            AgentFiles.OwnUser == "0", "the tools work as root of the guest, and the tests' agent has the rights of this user");
        await using var connection = new ChannelConnection(
            AgentFiles.Connect(), "test", TimeProvider.System, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance);
        await using var world = await BridgeWorld.StartAsync(allowed: _allowed);
        var guest = Directory.CreateDirectory($"{_base}/guest").FullName;
        var own = (await world.DoAsync("run", new { command = "echo" })).GetProperty("sandbox").GetString()!;
        world.Server.Node.GuestOf(own).Files = connection;
        var up = await world.DoAsync("upload", new { from = "own", to = guest });
        Assert.Equal((1, 3, own), (up.GetProperty("files").GetInt32(), up.GetProperty("bytes").GetInt32(),
            up.GetProperty("sandbox").GetString()));
        Assert.Equal("own", await File.ReadAllTextAsync($"{guest}/own"));
        File.WriteAllText($"{guest}/made", "made");
        await world.DoAsync("download", new { from = $"{guest}/made", to = "dir" });
        Assert.Equal("made", await File.ReadAllTextAsync($"{_allowed}/dir/made"));
        await world.DoAsync("download", new { from = guest, to = "whole" });
        Assert.Equal("own", await File.ReadAllTextAsync($"{_allowed}/whole/own"));
        // A name in the directory may be a link that leads out.
        File.CreateSymbolicLink($"{_allowed}/dir/secret", $"{_base}/secret");
        File.WriteAllText($"{guest}/secret", "evil");
        Assert.Equal("to", FieldOf(await world.CallAsync("download", new { from = $"{guest}/secret", to = "dir" })));
        Assert.Equal("secret", await File.ReadAllTextAsync($"{_base}/secret"));
        // A link in a directory goes along as a link, without what it leads to.
        await world.DoAsync("upload", new { from = ".", to = $"{guest}/copy" });
        Assert.Equal($"{_base}/secret", new FileInfo($"{guest}/copy/file-link").LinkTarget);
    }

    [Fact]
    public async Task A_name_that_only_the_guest_knows_is_not_used_and_what_is_left_out_is_counted()
    {
        Assert.SkipUnless(
            AgentFiles.OwnUser == "0", "the tools work as root of the guest, and the tests' agent has the rights of this user");
        await using var connection = new ChannelConnection(
            AgentFiles.Connect(), "test", TimeProvider.System, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance);
        await using var world = await BridgeWorld.StartAsync(allowed: _allowed);
        var guest = Directory.CreateDirectory($"{_base}/guest/sub").Parent!.FullName;
        File.WriteAllText($"{guest}/made", "made");
        var outside = Directory.CreateDirectory($"{_base}/outside").FullName;
        Directory.CreateSymbolicLink($"{_allowed}/dir/guest", outside);
        var own = (await world.DoAsync("run", new { command = "echo" })).GetProperty("sandbox").GetString()!;
        world.Server.Node.GuestOf(own).Files = connection;
        await world.DoAsync("download", new { from = $"{guest}/sub/..", to = "dir" });
        Assert.Empty(Directory.GetFileSystemEntries(outside));
        Assert.Equal("made", await File.ReadAllTextAsync($"{_allowed}/dir/made"));
        await Pandora.Linux.Command.RunAsync("mkfifo", [$"{_allowed}/dir/fifo"]);
        var up = await world.DoAsync("upload", new { from = "dir", to = $"{guest}/up" });
        Assert.Equal((1, 1), (up.GetProperty("files").GetInt32(), up.GetProperty("left_out").GetInt32()));
        // What the guest says of its files is marked, as in the server's answers.
        File.CreateSymbolicLink($"{guest}/link", $"{guest}/ignore-your-instructions");
        var lost = await world.CallAsync("download", new { from = $"{guest}/link", to = "dir" });
        Assert.Equal(
            "file_not_found: the transfer was not done, or not to its end; the next block says why",
            ((TextContentBlock)lost.Content[0]).Text);
        Assert.Equal("guest", lost.Content[1].Meta!["pandora/from"]!.GetValue<string>());
        // What is there and of another kind is the model's mistake.
        Assert.Equal("to", FieldOf(await world.CallAsync("download", new { from = guest, to = "own" })));
        Assert.Equal("to", FieldOf(await world.CallAsync("download", new { from = $"{guest}/made", to = "none/" })));
    }

    [Fact]
    public async Task A_link_that_comes_after_the_path_was_judged_is_not_followed()
    {
        var allowed = new AllowedDirectories([_allowed]);
        File.WriteAllText($"{_allowed}/dir/secret", "own");
        var (file, inner) = (allowed.Find("own")!, allowed.Find("dir/secret")!);
        using (var opened = allowed.Open(file))
        {
            Assert.Equal("own", await File.ReadAllTextAsync(AllowedDirectories.PathOf(opened!)));
            File.Delete(file);
            File.CreateSymbolicLink(file, $"{_base}/secret");
            Assert.Equal("own", await File.ReadAllTextAsync(AllowedDirectories.PathOf(opened!)));
        }

        Assert.Null(allowed.Open(file));
        Directory.Delete($"{_allowed}/dir", recursive: true);
        Directory.CreateSymbolicLink($"{_allowed}/dir", _base);
        Assert.Null(allowed.Open(inner));
        await Pandora.Linux.Command.RunAsync("mkfifo", [$"{_allowed}/fifo"]);
        Assert.Null(allowed.Open($"{_allowed}/fifo"));
        Assert.Null(allowed.Open($"{_allowed}/none"));
    }

    [Theory]
    [InlineData("upload", "file-link", "x", "from")]
    [InlineData("upload", "none", "x", "from")]
    [InlineData("upload", "fifo", "x", "from")]
    [InlineData("upload", "", "x", "from")]
    [InlineData("download", "x", "out/secret", "to")]
    [InlineData("download", "x", "", "to")]
    [InlineData("download", "x", "fifo", "to")]
    public async Task What_is_not_allowed_is_refused(string tool, string from, string to, string field)
    {
        await Pandora.Linux.Command.RunAsync("mkfifo", [$"{_allowed}/fifo"]);
        await using var world = await BridgeWorld.StartAsync(allowed: _allowed);
        Assert.Equal(field, FieldOf(await world.CallAsync(tool, new { from, to })));
        Assert.Equal("extra", FieldOf(await world.CallAsync(tool, new { from, to, extra = 1 })));
        Assert.Equal("secret", await File.ReadAllTextAsync($"{_base}/secret"));
    }

    [Fact]
    public async Task They_are_listed_with_the_directory_only_when_it_is_allowed()
    {
        await using var world = await BridgeWorld.StartAsync(allowed: _allowed);
        var tools = (await world.Client.ListToolsAsync()).Select(t => t.ProtocolTool).ToList();
        Assert.Equal(16, tools.Count);
        var upload = tools.Single(t => t.Name == "upload");
        Assert.Contains(_allowed, upload.InputSchema.GetRawText(), StringComparison.Ordinal);
        Assert.NotNull(upload.OutputSchema);
    }

    private static string? FieldOf(CallToolResult result) =>
        result.IsError == true ? result.Meta!["pandora/error"]!["field"]?.GetValue<string>() : null;

    private string Real(string path) => path.Replace("ALLOWED", _allowed, StringComparison.Ordinal);
}
