using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using Pandora.Linux;

namespace Pandora.Tests.Linux;

/// <summary>A tree of files that a guest can change, with links to a directory of the host beside it.</summary>
public sealed class RootedDirectoryTests : IDisposable
{
    private const UnixFileMode Mode = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead;
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly string _tree;
    private readonly string _host;

    public RootedDirectoryTests()
    {
        _tree = Directory.CreateDirectory(Path.Combine(_directory, "tree")).FullName;
        _host = Directory.CreateDirectory(Path.Combine(_directory, "host")).FullName;
        File.WriteAllText(Path.Combine(_host, "file"), "the host's");
        Directory.CreateDirectory(At("etc"));
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    public static TheoryData<string> Targets =>
        ["{host}/file", "../../host/file", "../../../../../../../../..{host}/file", "{host}/new", "nowhere", "name"];

    [Theory]
    [MemberData(nameof(Targets))]
    public async Task A_link_is_replaced_and_not_written_through(string target)
    {
        using var root = RootedDirectory.Open(_tree);
        Link("etc/name", target);
        root.WriteFile("etc/name", "new"u8, Mode);
        AssertFile("etc/name", "new", Mode);
        root.Delete("etc/name");
        Link("etc/name", target);
        await root.CopyFileAsync(Path.Combine(_host, "file"), "etc/name", Mode | UnixFileMode.UserExecute, CancellationToken.None);
        AssertFile("etc/name", "the host's", Mode | UnixFileMode.UserExecute);
        AssertHostIsUnchanged();
    }

    [Theory]
    [MemberData(nameof(Targets))]
    public void A_link_is_deleted_and_not_its_target(string target)
    {
        using var root = RootedDirectory.Open(_tree);
        Link("etc/name", target);
        root.Delete("etc/name");
        root.Delete("etc/name");
        Link("etc/name", target);
        root.DeleteFiles("etc");
        Assert.Empty(Directory.GetFileSystemEntries(At("etc")));
        AssertHostIsUnchanged();
    }

    [Fact]
    public async Task A_socket_is_connected_to_and_a_link_in_its_place_is_not_followed()
    {
        using var host = Listen(Path.Combine(_host, "socket"));
        using var own = Listen(At("own"));
        using (await UnixSocket.ConnectAsync(At("own"), CancellationToken.None))
        {
            using var accepted = await own.AcceptAsync();
        }

        Link("linked", Path.Combine(_host, "socket"));
        File.WriteAllText(At("file"), "");
        Assert.False(
            (await Assert.ThrowsAsync<RootedPathException>(() => UnixSocket.ConnectAsync(At("linked"), CancellationToken.None))).IsMissing);
        Assert.Contains("is no socket",
            (await Assert.ThrowsAsync<RootedPathException>(() => UnixSocket.ConnectAsync(At("file"), CancellationToken.None))).Message);
        Assert.True((await Assert.ThrowsAsync<RootedPathException>(() => UnixSocket.ConnectAsync(At("none"), CancellationToken.None)))
            .IsMissing);
        Assert.False(host.Poll(0, SelectMode.SelectRead));
    }

    private static Socket Listen(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint(path));
        socket.Listen();
        return socket;
    }

    [Theory]
    [MemberData(nameof(Targets))]
    public void A_link_is_not_read_through(string target)
    {
        using var root = RootedDirectory.Open(_tree);
        Link("etc/name", target);
        Assert.Throws<RootedPathException>(() => root.OpenFile("etc/name").Dispose());
    }

    [Theory]
    [InlineData("{host}")]
    [InlineData("../host")]
    [InlineData("../../../../../../..{host}")]
    [InlineData("nowhere")]
    [InlineData("dir")]
    [InlineData("/proc/self/cwd")]
    public void A_link_in_the_place_of_a_directory_is_an_error_that_names_it(string target)
    {
        using var root = RootedDirectory.Open(_tree);
        Link("dir", target);
        foreach (var act in new Action[]
        {
            () => root.WriteFile("dir/file", "new"u8, Mode),
            () => root.WriteFile("dir/below/file", "new"u8, Mode),
            () => root.Delete("dir/file"),
            () => root.DeleteFiles("dir"),
            () => root.CreateDirectory("dir"),
            () => root.CreateDirectory("dir/below"),
        })
        {
            Assert.StartsWith("/dir ", Assert.Throws<RootedPathException>(act).Message);
        }

        Assert.Throws<RootedPathException>(() => root.OpenFile("dir/file").Dispose());
        AssertHostIsUnchanged();
    }

    [Theory]
    [InlineData("/usr/lib")]
    [InlineData("usr/lib")]
    [InlineData("../../../usr/lib")]
    public void A_link_within_the_tree_is_resolved_as_in_the_guest(string target)
    {
        Directory.CreateDirectory(At("usr/lib"));
        Link("lib", target);
        using var root = RootedDirectory.Open(_tree);
        root.WriteFile("lib/below/file", "new"u8, Mode);
        AssertFile("usr/lib/below/file", "new", Mode);
        Link("usr/lib/below/link", "/lib/below/file");
        Assert.Equal("new", Read(root.OpenFile("lib/below/link")));
        root.DeleteFiles("lib/below");
        Assert.Empty(Directory.GetFileSystemEntries(At("usr/lib/below")));
        root.CreateDirectory("lib");
    }

    [Fact]
    public void A_fifo_in_the_place_of_a_file_is_replaced_without_being_opened()
    {
        using var root = RootedDirectory.Open(_tree);
        Run("mkfifo", At("etc/name"));
        // A link to a FIFO in the tree, too. Opening it for writing would wait for a reader.
        Run("mkfifo", At("fifo"));
        Link("etc/link", "/fifo");
        foreach (var name in new[] { "etc/name", "etc/link" })
        {
            Assert.Contains("no regular file", Assert.Throws<RootedPathException>(() => root.OpenFile(name).Dispose()).Message);
            root.WriteFile(name, "new"u8, Mode);
            AssertFile(name, "new", Mode);
        }

        Run("mkfifo", At("etc/other"));
        root.DeleteFiles("etc");
        Assert.Empty(Directory.GetFileSystemEntries(At("etc")));
    }

    [Fact]
    public void A_file_for_a_directory_and_a_directory_for_a_file_are_errors_that_name_them()
    {
        using var root = RootedDirectory.Open(_tree);
        File.WriteAllText(At("file"), "");
        Directory.CreateDirectory(At("etc/name"));
        Assert.StartsWith(
            "/file is no directory", Assert.Throws<RootedPathException>(() => root.WriteFile("file/a/b", "new"u8, Mode)).Message);
        Assert.StartsWith(
            "/etc/name is a directory", Assert.Throws<RootedPathException>(() => root.WriteFile("etc/name", "new"u8, Mode)).Message);
        Assert.StartsWith("/etc/name is a directory", Assert.Throws<RootedPathException>(() => root.Delete("etc/name")).Message);
        Assert.Contains("no regular file", Assert.Throws<RootedPathException>(() => root.OpenFile("etc/name").Dispose()).Message);
    }

    [Fact]
    public void A_missing_directory_is_made_by_a_write_and_not_by_a_delete()
    {
        using var root = RootedDirectory.Open(_tree);
        root.Delete("a/b/c");
        root.DeleteFiles("a/b");
        Assert.False(Directory.Exists(At("a")));
        root.WriteFile("a/b/c", ""u8, Mode);
        AssertFile("a/b/c", "", Mode);
    }

    [Fact]
    public void An_own_file_has_one_name_and_is_no_link()
    {
        using var root = RootedDirectory.Open(_tree);
        File.WriteAllText(At("log"), "own");
        Assert.Equal("own", Read(root.OpenFile("log", isOwn: true)));
        Link("link", "/log");
        Assert.Throws<RootedPathException>(() => root.OpenFile("link", isOwn: true).Dispose());
        Assert.True(Libc.TryLink(At("log"), At("twin")));
        Assert.Contains("another name", Assert.Throws<RootedPathException>(() => root.OpenFile("log", isOwn: true).Dispose()).Message);
    }

    private string At(string path) => Path.Combine(_tree, path);

    private void Link(string path, string target) =>
        File.CreateSymbolicLink(At(path), target.Replace("{host}", _host, StringComparison.Ordinal));

    private void AssertFile(string path, string content, UnixFileMode mode)
    {
        Assert.Null(new FileInfo(At(path)).LinkTarget);
        Assert.Equal(content, File.ReadAllText(At(path)));
        Assert.Equal(mode, File.GetUnixFileMode(At(path)));
    }

    private void AssertHostIsUnchanged()
    {
        Assert.Equal([Path.Combine(_host, "file")], Directory.GetFileSystemEntries(_host));
        Assert.Equal("the host's", File.ReadAllText(Path.Combine(_host, "file")));
    }

    private static string Read(Microsoft.Win32.SafeHandles.SafeFileHandle file)
    {
        using var reader = new StreamReader(new FileStream(file, FileAccess.Read), Encoding.UTF8);
        return reader.ReadToEnd();
    }

    private static void Run(string tool, string argument)
    {
        using var process = Process.Start(new ProcessStartInfo(tool, [argument]))!;
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
    }
}
