using Pandora.Agent.Protocol.Files;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Tests.Files;

/// <summary>Reads and shows by the agent's code.</summary>
public sealed class AgentReadTests : AgentFileTest
{
    [Theory]
    [InlineData(0, -1, 0, 300_000)]
    [InlineData(299_999, -1, 299_999, 1)]
    [InlineData(300_000, -1, 300_000, 0)]
    [InlineData(500_000, -1, 300_000, 0)]
    [InlineData(100, 70_000, 100, 70_000)]
    [InlineData(100, 0, 100, 0)]
    [InlineData(-10, -1, 299_990, 10)]
    [InlineData(-10, 4, 299_990, 4)]
    [InlineData(-900_000, -1, 0, 300_000)]
    public async Task A_part_of_a_file_is_read(long offset, long length, int first, int count)
    {
        var content = Random(300_000);
        File.WriteAllBytes(PathOf("a"), content);
        var answer = await Talk.DoAsync(Request(FileOperation.Read, "a") with { Offset = offset, Length = length });
        Assert.Equal(content.AsSpan(first, count).ToArray(), answer.Bytes);
        Assert.Equal(300_000, answer.Entries.Single().Size);
        Assert.Equal(count, answer.Result!.Bytes);
    }

    [Fact]
    public async Task A_large_file_arrives_whole()
    {
        var content = Random(20_000_000);
        File.WriteAllBytes(PathOf("large"), content);
        var answer = await Talk.DoAsync(Request(FileOperation.Read, "large"));
        Assert.True(content.AsSpan().SequenceEqual(answer.Bytes));
    }

    [Fact]
    public async Task A_file_of_proc_is_read_to_its_end()
    {
        var answer = await Talk.DoAsync(Request(FileOperation.Read, "/proc/version"));
        Assert.StartsWith("Linux version", Text(answer.Bytes), StringComparison.Ordinal);
        Assert.Equal(0, answer.Entries.Single().Size);
    }

    [Fact]
    public async Task A_file_of_sysfs_has_no_false_size()
    {
        const string Path = "/sys/kernel/mm/transparent_hugepage/enabled";
        Assert.SkipUnless(File.Exists(Path), "this machine has no such file");
        var answer = await Talk.DoAsync(Request(FileOperation.Read, Path));
        Assert.Equal(0, answer.Entries.Single().Size);
        Assert.Equal(File.ReadAllText(Path), Text(answer.Bytes));
    }

    [Fact]
    public async Task A_link_is_shown_itself_unless_it_is_followed()
    {
        File.WriteAllText(PathOf("a"), "12345");
        File.CreateSymbolicLink(PathOf("link"), "a");
        var link = (await Talk.DoAsync(Request(FileOperation.Show, "link"))).Entries.Single();
        var file = (await Talk.DoAsync(Request(FileOperation.Show, "link") with { Options = FileOptions.FollowLinks })).Entries.Single();
        Assert.Equal((FileKind.Link, "a"), (link.Kind, Text(link.LinkTarget)));
        Assert.Equal((FileKind.File, 5L, ""), (file.Kind, file.Size, Text(file.LinkTarget)));
        Assert.Equal(PathOf("link"), Text(file.Path));
    }

    [Fact]
    public async Task What_is_known_of_a_file_is_shown()
    {
        File.WriteAllText(PathOf("a"), "12345");
        File.SetUnixFileMode(PathOf("a"), UnixFileMode.UserRead | UnixFileMode.GroupRead | UnixFileMode.SetGroup);
        File.SetLastWriteTimeUtc(PathOf("a"), new DateTime(2001, 2, 3, 4, 5, 6, DateTimeKind.Utc));
        var entry = (await Talk.DoAsync(Request(FileOperation.Show, $"{Root}//./a"))).Entries.Single();
        Assert.Equal(PathOf("a"), Text(entry.Path));
        Assert.Equal(981_173_106_000_000_000, entry.ModifiedAt);
        Assert.Equal(Convert.ToInt32("2440", 8), entry.Mode);
        Assert.Equal(entry.UserId == 0 ? "root" : entry.User, entry.User);
    }

    [Theory]
    [InlineData("missing", nameof(FileFailureKind.NotFound))]
    [InlineData("/dev/null", nameof(FileFailureKind.WrongKind))]
    [InlineData("", nameof(FileFailureKind.WrongKind))]
    [InlineData("fifo", nameof(FileFailureKind.WrongKind))]
    [InlineData("loop", nameof(FileFailureKind.Path))]
    [InlineData("a/b", nameof(FileFailureKind.WrongKind))]
    public async Task What_is_no_regular_file_is_not_read(string path, string kind)
    {
        File.WriteAllText(PathOf("a"), "");
        File.CreateSymbolicLink(PathOf("loop"), "loop");
        await MakeFifoAsync(PathOf("fifo"));
        await Talk.FailAsync(Request(FileOperation.Read, path), Enum.Parse<FileFailureKind>(kind));
    }

    [Fact]
    public async Task A_name_of_255_bytes_is_one_and_of_256_is_none()
    {
        var longest = new string('x', 255);
        File.WriteAllText(PathOf(longest), "1");
        Assert.Equal("1", Text((await Talk.DoAsync(Request(FileOperation.Read, longest))).Bytes));
        await Talk.FailAsync(Request(FileOperation.Read, longest + "x"), FileFailureKind.Path);
        await Talk.FailAsync(Request(FileOperation.Read, "a\0b"), FileFailureKind.Path);
        await Talk.FailAsync(Request(FileOperation.Read, "a") with { Path = [] }, FileFailureKind.Path);
        await Talk.FailAsync(Request(FileOperation.Read, "/" + new string('/', 4095)), FileFailureKind.Path);
    }

    [Fact]
    public async Task An_unknown_user_is_refused() =>
        await Talk.FailAsync(Request(FileOperation.Show, "/") with { User = "no-such-user" }, FileFailureKind.User);

    internal static async Task MakeFifoAsync(string path)
    {
        using var process = System.Diagnostics.Process.Start("mkfifo", [path]);
        await process.WaitForExitAsync();
        Assert.Equal(0, process.ExitCode);
    }
}
