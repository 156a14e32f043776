using System.Text;
using Pandora.Agent.Protocol.Files;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Tests.Files;

/// <summary>Deletes, moves, copies, lists and new directories by the agent's code.</summary>
public sealed class AgentTreeTests : AgentFileTest
{
    [Fact]
    public async Task A_file_a_link_and_an_empty_directory_are_deleted()
    {
        MakeTree();
        Directory.CreateDirectory(PathOf("empty"));
        await Talk.DoAsync(Request(FileOperation.Delete, "tree/a"));
        await Talk.DoAsync(Request(FileOperation.Delete, "tree/link"));
        await Talk.DoAsync(Request(FileOperation.Delete, "empty/"));
        await Talk.FailAsync(Request(FileOperation.Delete, "tree"), FileFailureKind.Exists);
        await Talk.FailAsync(Request(FileOperation.Delete, "missing"), FileFailureKind.NotFound);
        Assert.True(File.Exists(PathOf("tree/d/b")));
    }

    [Theory]
    [InlineData("/")]
    [InlineData("//")]
    [InlineData(".")]
    [InlineData("tree/..")]
    public async Task What_is_no_name_is_not_deleted(string path)
    {
        MakeTree();
        await Talk.FailAsync(
            Request(FileOperation.Delete, path) with { Options = FileOptions.Recursive }, FileFailureKind.WrongKind);
        Assert.True(File.Exists(PathOf("tree/d/b")));
    }

    [Fact]
    public async Task A_tree_is_deleted_and_what_links_lead_to_stays()
    {
        MakeTree();
        Directory.CreateDirectory(PathOf("kept"));
        File.WriteAllText(PathOf("kept/file"), "");
        File.CreateSymbolicLink(PathOf("tree/d/out"), PathOf("kept"));
        var answer = await Talk.DoAsync(Request(FileOperation.Delete, "tree") with { Options = FileOptions.Recursive });
        Assert.Equal(7, answer.Result!.Entries);
        AssertNothingLeft("kept");
        Assert.True(File.Exists(PathOf("kept/file")));
    }

    [Fact]
    public async Task A_tree_deeper_than_a_path_is_long_is_copied_listed_packed_and_deleted()
    {
        // Each is moved into the next, so that no path is too long.
        Directory.CreateDirectory(PathOf("deep"));
        for (var i = 0; i < 300; i++)
        {
            Directory.CreateDirectory(PathOf("next"));
            Directory.Move(PathOf("deep"), PathOf($"next/{new string('x', 100)}"));
            Directory.Move(PathOf("next"), PathOf("deep"));
        }

        var copy = await Talk.DoAsync(
            Request(FileOperation.Copy, "deep") with { Options = FileOptions.Recursive, Target = Bytes(PathOf("copy")) });
        Assert.Equal(301, copy.Result!.Entries);
        var list = await Talk.DoAsync(Request(FileOperation.List, "deep") with { Depth = FileRequest.MaxDepth });
        Assert.Equal(64, list.Entries.Count);
        await Talk.FailAsync(Request(FileOperation.Pack, "deep"), FileFailureKind.Path);
        foreach (var name in new[] { "deep", "copy" })
        {
            var deleted = await Talk.DoAsync(Request(FileOperation.Delete, name) with { Options = FileOptions.Recursive });
            Assert.Equal(301, deleted.Result!.Entries);
        }

        AssertNothingLeft();
    }

    [Fact]
    public async Task Ten_thousand_files_are_listed_in_pages_copied_packed_and_deleted()
    {
        Directory.CreateDirectory(PathOf("many"));
        for (var i = 0; i < 10_050; i++)
        {
            File.WriteAllText(PathOf($"many/{i:d5}"), "x");
        }

        var (names, after) = (new List<string>(), Array.Empty<byte>());
        while (true)
        {
            var page = await Talk.DoAsync(Request(FileOperation.List, "many") with { Limit = 3000, After = after });
            names.AddRange(page.Entries.Select(e => Path.GetFileName(Text(e.Path))));
            if (!page.Result!.HasMore)
            {
                break;
            }

            after = Bytes(names[^1]);
        }

        Assert.Equal(Enumerable.Range(0, 10_050).Select(i => $"{i:d5}"), names);
        var copy = Request(FileOperation.Copy, "many") with { Options = FileOptions.Recursive, Target = Bytes(PathOf("copy")) };
        Assert.Equal(10_051, (await Talk.DoAsync(copy)).Result!.Entries);
        Assert.Equal(10_050, (await Talk.DoAsync(Request(FileOperation.Pack, "copy"))).Result!.Entries);
        var deleted = await Talk.DoAsync(Request(FileOperation.Delete, "many") with { Options = FileOptions.Recursive });
        Assert.Equal(10_051, deleted.Result!.Entries);
    }

    [Fact]
    public async Task A_list_goes_down_in_order_and_continues_after_any_entry()
    {
        MakeTree();
        Directory.CreateDirectory(PathOf("tree/d/e"));
        File.WriteAllText(PathOf("tree/d/e/f"), "");
        File.WriteAllText(PathOf("tree/d.x"), "");
        var all = (await ListAsync([])).Entries.Select(e => Text(e.Path)[(Root.Length + 6)..]).ToList();
        Assert.Equal(["a", "d", "d/b", "d/e", "d/e/f", "d.x", "link", "z"], all);
        for (var i = 0; i < all.Count; i++)
        {
            Assert.Equal(all.Skip(i + 1), (await ListAsync(Bytes(all[i]))).Entries.Select(e => Text(e.Path)[(Root.Length + 6)..]));
        }

        Assert.Equal("d.x", Path.GetFileName(Text((await ListAsync(Bytes("d/zz"))).Entries[0].Path)));
        Assert.Equal("d.x", Path.GetFileName(Text((await ListAsync(Bytes("d!/zz/y"))).Entries[0].Path)));
        await Talk.FailAsync(Request(FileOperation.List, "tree/a"), FileFailureKind.WrongKind);
        await Talk.FailAsync(Request(FileOperation.List, "missing"), FileFailureKind.NotFound);

        Task<FileAnswer> ListAsync(byte[] after) =>
            Talk.DoAsync(Request(FileOperation.List, "tree") with { Depth = 5, After = after });
    }

    [Fact]
    public async Task A_directory_is_made_with_its_mode()
    {
        var answer = await Talk.DoAsync(Request(FileOperation.MakeDirectory, "d") with { Mode = 0x3FF });
        Assert.Equal((true, FileKind.Directory, 0x3FF), (answer.Result!.IsCreated, answer.Entries[0].Kind, answer.Entries[0].Mode));
        await Talk.FailAsync(Request(FileOperation.MakeDirectory, "d"), FileFailureKind.Exists);
        await Talk.FailAsync(Request(FileOperation.MakeDirectory, "x/y"), FileFailureKind.NotFound);
        var parents = Request(FileOperation.MakeDirectory, "x/y") with { Options = FileOptions.MakeParents };
        Assert.True((await Talk.DoAsync(parents)).Result!.IsCreated);
        Assert.False((await Talk.DoAsync(parents)).Result!.IsCreated);
        File.WriteAllText(PathOf("f"), "");
        await Talk.FailAsync(Request(FileOperation.MakeDirectory, "f") with { Options = FileOptions.MakeParents }, FileFailureKind.Exists);
    }

    [Fact]
    public async Task A_move_replaces_on_request_only()
    {
        MakeTree();
        File.WriteAllText(PathOf("other"), "other");
        var move = Request(FileOperation.Move, "tree/a") with { Target = Bytes(PathOf("other")) };
        await Talk.FailAsync(move, FileFailureKind.Exists);
        var answer = await Talk.DoAsync(move with { Options = FileOptions.Replace });
        Assert.Equal((PathOf("other"), false), (Text(answer.Entries[0].Path), answer.Result!.IsCreated));
        Assert.Equal("a", File.ReadAllText(PathOf("other")));
        await Talk.DoAsync(Request(FileOperation.Move, "tree") with
        {
            Target = Bytes(PathOf("x/y/tree")),
            Options = FileOptions.MakeParents,
        });
        Assert.True(File.Exists(PathOf("x/y/tree/d/b")));
        await Talk.FailAsync(Request(FileOperation.Move, "x") with { Target = Bytes(PathOf("x/y/z")) }, FileFailureKind.WrongKind);
        await Talk.FailAsync(Request(FileOperation.Move, "missing") with { Target = Bytes(PathOf("n")) }, FileFailureKind.NotFound);
    }

    [Fact]
    public async Task A_move_to_another_filesystem_is_a_copy()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "only root mounts");
        MakeTree();
        using var disk = new SmallDisk(PathOf("disk"));
        await Talk.DoAsync(Request(FileOperation.Move, "tree") with { Target = Bytes(PathOf("disk/tree")) });
        Assert.Equal("b", File.ReadAllText(PathOf("disk/tree/d/b")));
        Assert.False(Directory.Exists(PathOf("tree")));
    }

    [Fact]
    public async Task A_copy_keeps_modes_times_links_and_holes()
    {
        MakeTree();
        await AgentReadTests.MakeFifoAsync(PathOf("tree/fifo"));
        File.SetUnixFileMode(PathOf("tree/a"), UnixFileMode.UserRead | UnixFileMode.OtherExecute);
        Run("truncate", "-s", "3M", PathOf("tree/z"));
        File.AppendAllText(PathOf("tree/z"), "end");
        Run("touch", "-d", "@1234567890.123456789", PathOf("tree/a"), PathOf("tree/d"));
        var copy = Request(FileOperation.Copy, "tree") with { Target = Bytes(PathOf("copy")) };
        await Talk.FailAsync(copy, FileFailureKind.WrongKind);
        await Talk.DoAsync(copy with { Options = FileOptions.Recursive });
        Assert.Equal(await DescribeAsync("tree"), await DescribeAsync("copy"));
        await Talk.FailAsync(copy with { Options = FileOptions.Recursive | FileOptions.Replace }, FileFailureKind.Exists);
        await Talk.FailAsync(
            copy with { Options = FileOptions.Recursive, Target = Bytes(PathOf("tree/d/x")) }, FileFailureKind.WrongKind);
    }

    [Fact]
    public async Task A_link_that_is_put_in_a_directorys_place_is_never_followed()
    {
        Directory.CreateDirectory(PathOf("victim"));
        File.WriteAllText(PathOf("victim/secret"), "SECRET");
        using var stop = new CancellationTokenSource();
        for (var round = 0; round < 30; round++)
        {
            Directory.CreateDirectory(PathOf("tree/d/e"));
            File.WriteAllText(PathOf("tree/d/e/f"), "x");
            var swapping = Task.Run(() => Swap(stop.Token));
            var packed = await Talk.AskAsync(Request(FileOperation.Pack, "tree"));
            Assert.DoesNotContain("SECRET", Encoding.Latin1.GetString(packed.Bytes), StringComparison.Ordinal);
            await Talk.AskAsync(Request(FileOperation.Copy, "tree") with
            {
                Target = Bytes(PathOf("copy")),
                Options = FileOptions.Recursive,
            });
            // The link itself may have been copied.
            Assert.False(new FileInfo(PathOf("copy/d")).LinkTarget is null && File.Exists(PathOf("copy/d/secret")));
            await Talk.AskAsync(Request(FileOperation.Delete, "tree") with { Options = FileOptions.Recursive });
            Assert.Equal("SECRET", File.ReadAllText(PathOf("victim/secret")));
            await swapping;
            Run("rm", "-rf", PathOf("tree"), PathOf("copy"), PathOf("aside"));
        }

        void Swap(CancellationToken cancellationToken)
        {
            for (var i = 0; i < 500 && !cancellationToken.IsCancellationRequested; i++)
            {
                try
                {
                    Directory.Move(PathOf("tree/d"), PathOf("aside"));
                    File.CreateSymbolicLink(PathOf("tree/d"), PathOf("victim"));
                    File.Delete(PathOf("tree/d"));
                    Directory.Move(PathOf("aside"), PathOf("tree/d"));
                }
                catch (IOException)
                {
                    // The agent has deleted it.
                    return;
                }
            }
        }
    }

    [Fact]
    public async Task No_more_requests_run_at_once_than_the_guest_has_room_for()
    {
        var open = new List<Pandora.Engine.Guests.Agent.AgentStream>();
        for (var i = 0; i < 32; i++)
        {
            open.Add(await Talk.OpenAsync(Request(FileOperation.Write, $"f{i}")));
        }

        await Talk.FailAsync(Request(FileOperation.Show, "/"), FileFailureKind.TooMany);
        open.ForEach(s => s.Close(mustForget: false));
        for (var i = 0; i < 500 && (await Talk.AskAsync(Request(FileOperation.Show, "/"))).Failure is not null; i++)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System);
        }

        await Talk.DoAsync(Request(FileOperation.Show, "/"));
        AssertNothingLeft();
    }

    private void MakeTree()
    {
        Directory.CreateDirectory(PathOf("tree/d"));
        File.WriteAllText(PathOf("tree/a"), "a");
        File.WriteAllText(PathOf("tree/d/b"), "b");
        File.WriteAllText(PathOf("tree/z"), "");
        File.CreateSymbolicLink(PathOf("tree/link"), "d/b");
    }

    private async Task<string> DescribeAsync(string name)
    {
        var start = new System.Diagnostics.ProcessStartInfo("find", [".", "-printf", "%p %y %m %U %G %s %b %l %T@\\n"])
        {
            WorkingDirectory = PathOf(name),
            RedirectStandardOutput = true,
        };
        using var process = System.Diagnostics.Process.Start(start)!;
        var lines = (await process.StandardOutput.ReadToEndAsync()).Split('\n');
        return string.Join('\n', lines.Order(StringComparer.Ordinal));
    }
}
