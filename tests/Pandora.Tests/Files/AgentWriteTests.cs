using Pandora.Agent.Protocol.Files;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Tests.Files;

/// <summary>Writes by the agent's code.</summary>
public sealed class AgentWriteTests : AgentFileTest
{
    [Theory]
    [InlineData(0)]
    [InlineData(5)]
    [InlineData(5_000_001)]
    public async Task A_new_file_is_written(int size)
    {
        var content = Random(size);
        var answer = await Talk.DoAsync(Request(FileOperation.Write, "a") with { ModifiedAt = 1_234_567_890_123_456_789 }, content);
        Assert.Equal(content, File.ReadAllBytes(PathOf("a")));
        var entry = answer.Entries.Single();
        Assert.Equal((size, 0x1A4, 1_234_567_890_123_456_789), (entry.Size, entry.Mode, entry.ModifiedAt));
        Assert.Equal(new FileResult(IsCreated: true, size, 1), answer.Result);
        AssertNothingLeft("a");
    }

    [Fact]
    public async Task A_file_that_is_replaced_keeps_its_mode()
    {
        File.WriteAllText(PathOf("a"), "old");
        File.SetUnixFileMode(PathOf("a"), UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        var answer = await Talk.DoAsync(Request(FileOperation.Write, "a"), Bytes("new"));
        Assert.Equal("new", File.ReadAllText(PathOf("a")));
        Assert.Equal((0x1C0, false), (answer.Entries.Single().Mode, answer.Result!.IsCreated));
        var other = await Talk.DoAsync(Request(FileOperation.Write, "a") with { Mode = 0xFFF }, Bytes("newer"));
        Assert.Equal(0xFFF, other.Entries.Single().Mode);
    }

    [Fact]
    public async Task A_reader_of_the_old_file_still_has_it()
    {
        File.WriteAllText(PathOf("a"), "old");
        using var reader = File.OpenText(PathOf("a"));
        await Talk.DoAsync(Request(FileOperation.Write, "a"), Bytes("new"));
        Assert.Equal("old", reader.ReadToEnd());
    }

    [Fact]
    public async Task A_link_stays_and_its_file_is_written()
    {
        Directory.CreateDirectory(PathOf("d"));
        File.CreateSymbolicLink(PathOf("link"), "d/other");
        File.CreateSymbolicLink(PathOf("d/other"), PathOf("d/file"));
        var answer = await Talk.DoAsync(Request(FileOperation.Write, "link"), Bytes("1"));
        Assert.True(answer.Result!.IsCreated);
        Assert.Equal("1", File.ReadAllText(PathOf("d/file")));
        Assert.Equal("d/other", new FileInfo(PathOf("link")).LinkTarget);
        await Talk.DoAsync(Request(FileOperation.Write, "link"), Bytes("2"));
        Assert.Equal("2", File.ReadAllText(PathOf("d/file")));
    }

    [Theory]
    [InlineData("d", nameof(FileFailureKind.WrongKind))]
    [InlineData("new/", nameof(FileFailureKind.WrongKind))]
    [InlineData("d/..", nameof(FileFailureKind.WrongKind))]
    [InlineData("missing/a", nameof(FileFailureKind.NotFound))]
    [InlineData("loop", nameof(FileFailureKind.Path))]
    [InlineData("fifo", nameof(FileFailureKind.WrongKind))]
    [InlineData("/dev/null", nameof(FileFailureKind.WrongKind))]
    [InlineData("/proc/version", nameof(FileFailureKind.Guest))]
    public async Task What_cannot_be_written_is_refused(string path, string kind)
    {
        Directory.CreateDirectory(PathOf("d"));
        File.CreateSymbolicLink(PathOf("loop"), "loop");
        await AgentReadTests.MakeFifoAsync(PathOf("fifo"));
        var answer = await Talk.AskAsync(Request(FileOperation.Write, path), Bytes("x"));
        Assert.NotNull(answer.Failure);
        if (kind != nameof(FileFailureKind.Guest))
        {
            Assert.Equal(kind, $"{answer.Failure.Kind}");
        }

        AssertNothingLeft("d", "fifo", "loop");
    }

    [Fact]
    public async Task Missing_directories_are_made_on_request()
    {
        var request = Request(FileOperation.Write, "x/y/z") with { Options = FileOptions.MakeParents };
        await Talk.DoAsync(request, Bytes("1"));
        Assert.Equal("1", File.ReadAllText(PathOf("x/y/z")));
        Assert.Equal(Convert.ToInt32("755", 8), (int)File.GetUnixFileMode(PathOf("x/y")));
        await Talk.FailAsync(Request(FileOperation.Write, "x/y/z/w") with { Options = FileOptions.MakeParents }, FileFailureKind.WrongKind);
    }

    [Fact]
    public async Task A_write_that_is_cut_off_changes_nothing()
    {
        File.WriteAllText(PathOf("a"), "old");
        foreach (var path in new[] { "a", "x/y" })
        {
            var stream = await Talk.OpenAsync(Request(FileOperation.Write, path) with { Options = FileOptions.MakeParents });
            await stream.WriteAsync(FileMessages.Encode(FileMessage.Write, Random(60_000)), default);
            await WaitUntilAsync(() => path == "a" || Directory.Exists(PathOf("x")));
            stream.Close(mustForget: false);
        }

        await WaitUntilAsync(() => !Directory.Exists(PathOf("x")));
        Assert.Equal("old", File.ReadAllText(PathOf("a")));
        AssertNothingLeft("a");
    }

    [Fact]
    public async Task Blocks_of_zeros_become_holes_on_request()
    {
        var content = new byte[4_000_000];
        Random(5000).CopyTo(content, 1_000_000);
        content[^1] = 1;
        await Talk.DoAsync(Request(FileOperation.Write, "a") with { Options = FileOptions.Sparse }, content);
        await Talk.DoAsync(Request(FileOperation.Write, "zeros") with { Options = FileOptions.Sparse }, new byte[1_000_001]);
        Assert.Equal(content, File.ReadAllBytes(PathOf("a")));
        Assert.Equal(new byte[1_000_001], File.ReadAllBytes(PathOf("zeros")));
        Assert.True(BlocksOf("a") < 200, $"{BlocksOf("a")} blocks");
        Assert.True(BlocksOf("zeros") < 16, $"{BlocksOf("zeros")} blocks");
    }

    [Fact]
    public async Task Conditions_are_kept()
    {
        var request = Request(FileOperation.Write, "a");
        await Talk.FailAsync(request with { Condition = "*" }, FileFailureKind.Condition, Bytes("0"));
        var first = (await Talk.DoAsync(request with { Condition = "" }, Bytes("1"))).Entries.Single();
        await Talk.FailAsync(request with { Condition = "" }, FileFailureKind.Condition, Bytes("2"));
        var second = (await Talk.DoAsync(request with { Condition = first.Tag }, Bytes("3"))).Entries.Single();
        await Talk.FailAsync(request with { Condition = first.Tag }, FileFailureKind.Condition, Bytes("4"));
        await Talk.DoAsync(request with { Condition = "*" }, Bytes("5"));
        Assert.NotEqual(first.Tag, second.Tag);
        Assert.Equal("5", File.ReadAllText(PathOf("a")));
        AssertNothingLeft("a");
    }

    [Fact]
    public async Task A_condition_is_checked_again_before_the_file_takes_its_place()
    {
        var stream = await Talk.OpenAsync(Request(FileOperation.Write, "a") with { Condition = "" });
        await stream.WriteAsync(FileMessages.Encode(FileMessage.Write, Random(60_000)), default);
        await stream.WriteAsync(FileMessages.Encode(FileMessage.Write, Random(60_000)), default);
        File.WriteAllText(PathOf("a"), "other");
        await stream.WriteAsync(FileMessages.Encode(FileMessage.EndWrite, []), default);
        var answer = await FileTalk.ReadAsync(stream);
        Assert.Equal(FileFailureKind.Condition, answer.Failure?.Kind);
        Assert.Equal("other", File.ReadAllText(PathOf("a")));
    }

    [Fact]
    public async Task A_name_that_is_not_UTF_8_is_kept()
    {
        byte[] path = [.. Bytes(Root), (byte)'/', 0xFF, 0xFE, (byte)'a'];
        await Talk.DoAsync(Request(FileOperation.Write, "a") with { Path = path }, Bytes("1"));
        var answer = await Talk.DoAsync(Request(FileOperation.Read, "a") with { Path = path });
        Assert.Equal(path, answer.Entries.Single().Path);
        Assert.Equal("1", Text(answer.Bytes));
    }

    [Fact]
    public async Task Other_users_have_their_own_rights()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "only root can act for others");
        const string Other = "65534";
        File.SetUnixFileMode(Root, (UnixFileMode)Convert.ToInt32("755", 8));
        Directory.CreateDirectory(PathOf("open"));
        File.SetUnixFileMode(PathOf("open"), (UnixFileMode)Convert.ToInt32("777", 8));
        File.WriteAllText(PathOf("secret"), "1");
        File.SetUnixFileMode(PathOf("secret"), UnixFileMode.UserRead);
        await Talk.FailAsync(Request(FileOperation.Read, "secret") with { User = Other }, FileFailureKind.Denied);
        await Talk.FailAsync(Request(FileOperation.Write, "new") with { User = Other }, FileFailureKind.Denied);
        var entry = (await Talk.DoAsync(Request(FileOperation.Write, "open/a") with { User = Other }, Bytes("1"))).Entries.Single();
        Assert.Equal(65534u, entry.UserId);
        await Talk.FailAsync(Request(FileOperation.Write, "open/a") with { User = Other, Owner = "0" }, FileFailureKind.Denied);
        var given = (await Talk.DoAsync(
            Request(FileOperation.Write, "given") with { Owner = "65534:7", Mode = 0xDED }, Bytes("1"))).Entries.Single();
        Assert.Equal((65534u, 7u, 0xDED), (given.UserId, given.GroupId, given.Mode));
        Assert.Equal("1", Text((await Talk.DoAsync(Request(FileOperation.Read, "secret"))).Bytes));
        await Talk.FailAsync(Request(FileOperation.Write, "b") with { Owner = "no-such-user" }, FileFailureKind.User);
    }

    [Fact]
    public async Task A_full_disk_leaves_the_old_file_whole()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "only root mounts");
        using var disk = new SmallDisk(PathOf("disk"));
        File.WriteAllText(PathOf("disk/a"), "old");
        await Talk.FailAsync(Request(FileOperation.Write, "disk/a"), FileFailureKind.Full, new byte[4_000_000]);
        Assert.Equal("old", File.ReadAllText(PathOf("disk/a")));
        Assert.Equal(["a"], Directory.GetFileSystemEntries(PathOf("disk")).Select(Path.GetFileName));
        await Talk.DoAsync(Request(FileOperation.Write, "disk/a"), new byte[500_000]);
    }

    private long BlocksOf(string name)
    {
        using var process = System.Diagnostics.Process.Start(
            new System.Diagnostics.ProcessStartInfo("stat", ["-c", "%b", PathOf(name)]) { RedirectStandardOutput = true })!;
        return long.Parse(process.StandardOutput.ReadToEnd());
    }
}

/// <summary>A filesystem of 1 MiB in memory, mounted while it is used.</summary>
internal sealed class SmallDisk : IDisposable
{
    private readonly string _path;

    public SmallDisk(string path)
    {
        _path = path;
        Directory.CreateDirectory(path);
        AgentFileTest.Run("mount", "-t", "tmpfs", "-o", "size=1m", "pandora-test", path);
    }

    public void Dispose() => AgentFileTest.Run("umount", _path);
}
