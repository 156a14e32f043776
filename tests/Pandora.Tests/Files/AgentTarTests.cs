using System.Formats.Tar;
using System.Text;
using Pandora.Agent.Protocol.Files;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Tests.Files;

/// <summary>Archives that the agent's code writes and reads.</summary>
public sealed class AgentTarTests : AgentFileTest
{
    private static readonly string s_long = new('n', 150);

    [Theory]
    [InlineData("ustar")]
    [InlineData("pax")]
    [InlineData("gnu")]
    [InlineData("v7")]
    public async Task An_archive_of_GNU_tar_is_unpacked(string format)
    {
        MakeTree(hasLongNames: format is "pax" or "gnu");
        Run("tar", "-C", PathOf("tree"), $"--format={format}", "-cf", PathOf("a.tar"), ".");
        var answer = await Talk.DoAsync(Request(FileOperation.Unpack, "out/new") with { Options = FileOptions.MakeParents },
            File.ReadAllBytes(PathOf("a.tar")));
        Assert.Equal(Describe("tree", hasParts: format == "pax"), Describe("out/new", hasParts: format == "pax"));
        Assert.True(answer.Result!.Entries >= 6);
        Assert.Equal(InodeOf("out/new/a"), InodeOf("out/new/hard"));
    }

    [Fact]
    public async Task What_is_packed_can_be_read_by_GNU_tar_by_dotnet_and_by_the_agent()
    {
        MakeTree(hasLongNames: true);
        File.WriteAllBytes(PathOf("tree/empty"), []);
        await AgentReadTests.MakeFifoAsync(PathOf("tree/fifo"));
        var answer = await Talk.DoAsync(Request(FileOperation.Pack, "tree"));
        File.WriteAllBytes(PathOf("a.tar"), answer.Bytes);
        Directory.CreateDirectory(PathOf("gnu"));
        Run("tar", "-C", PathOf("gnu"), "-xpf", PathOf("a.tar"));
        Assert.Equal(Describe("tree", hasParts: true), Describe("gnu", hasParts: true));
        await Talk.DoAsync(Request(FileOperation.Unpack, "own"), answer.Bytes);
        Assert.Equal(Describe("tree", hasParts: true), Describe("own", hasParts: true));
        using var reader = new TarReader(new MemoryStream(answer.Bytes));
        var names = new List<string>();
        while (reader.GetNextEntry() is { } entry)
        {
            names.Add(entry.Name);
        }

        Assert.Contains($"./d/{s_long}/ü", names);
        Assert.Equal(answer.Result!.Entries, names.Count);
    }

    [Fact]
    public async Task Names_that_are_not_UTF_8_pass_through_an_archive()
    {
        byte[] name = [.. Bytes($"{Root}/tree/"), 0xFF, (byte)'x'];
        await Talk.DoAsync(Request(FileOperation.Write, "a") with { Path = name, Options = FileOptions.MakeParents }, Bytes("1"));
        var packed = await Talk.DoAsync(Request(FileOperation.Pack, "tree"));
        await Talk.DoAsync(Request(FileOperation.Unpack, "out"), packed.Bytes);
        var list = await Talk.DoAsync(Request(FileOperation.List, "out"));
        Assert.Equal([.. Bytes($"{Root}/out/"), 0xFF, (byte)'x'], list.Entries.Single().Path);
    }

    [Fact]
    public async Task One_file_is_packed_under_its_name_and_an_empty_directory_as_nothing()
    {
        File.WriteAllText(PathOf("a"), "12345");
        var packed = await Talk.DoAsync(Request(FileOperation.Pack, "a"));
        using var reader = new TarReader(new MemoryStream(packed.Bytes));
        Assert.Equal(("a", 5L), (reader.GetNextEntry()!.Name, packed.Result!.Bytes));
        Directory.CreateDirectory(PathOf("empty"));
        Assert.Equal(new byte[1024], (await Talk.DoAsync(Request(FileOperation.Pack, "empty"))).Bytes);
        await Talk.FailAsync(Request(FileOperation.Pack, "/dev/null"), FileFailureKind.WrongKind);
        await Talk.FailAsync(Request(FileOperation.Pack, "missing"), FileFailureKind.NotFound);
    }

    [Fact]
    public async Task What_may_not_be_read_is_left_out_and_counted()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "only root can act for others");
        MakeTree(hasLongNames: false);
        Run("chmod", "755", Root);
        Run("chmod", "600", PathOf("tree/d/b"));
        Run("chmod", "700", PathOf("tree/e"));
        var answer = await Talk.DoAsync(Request(FileOperation.Pack, "tree") with { User = "65534" });
        Assert.Equal(2, answer.Result!.Omitted);
    }

    [Fact]
    public async Task Files_are_replaced_and_links_in_their_place_are_not_followed()
    {
        Directory.CreateDirectory(PathOf("out/d"));
        File.WriteAllText(PathOf("victim"), "victim");
        File.CreateSymbolicLink(PathOf("out/a"), PathOf("victim"));
        File.WriteAllText(PathOf("out/link"), "");
        var archive = Archive(w =>
        {
            Add(w, TarEntryType.RegularFile, "a", "new");
            Add(w, TarEntryType.SymbolicLink, "link", link: "/etc/passwd");
            Add(w, TarEntryType.Directory, "d/");
        });
        await Talk.DoAsync(Request(FileOperation.Unpack, "out"), archive);
        Assert.Equal(("victim", "new"), (File.ReadAllText(PathOf("victim")), File.ReadAllText(PathOf("out/a"))));
        Assert.Equal("/etc/passwd", new FileInfo(PathOf("out/link")).LinkTarget);
        await Talk.FailAsync(Request(FileOperation.Unpack, "out"), FileFailureKind.Exists,
            Archive(w => Add(w, TarEntryType.RegularFile, "d", "x")));
    }

    [Theory]
    [InlineData("/tmp/pandora-test-evil")]
    [InlineData("../evil")]
    [InlineData("d/../../evil")]
    [InlineData("..")]
    [InlineData("./")]
    public async Task Names_that_lead_out_are_refused(string name)
    {
        var archive = Archive(w =>
        {
            Add(w, TarEntryType.RegularFile, "before", "1");
            Add(w, TarEntryType.RegularFile, name, "evil");
        });
        var failure = await Talk.FailAsync(Request(FileOperation.Unpack, "out"), FileFailureKind.Archive, archive);
        Assert.Contains("1 entries were unpacked before", failure.Reason, StringComparison.Ordinal);
        AssertNothingLeft("out");
    }

    [Fact]
    public async Task Links_are_not_written_through()
    {
        Directory.CreateDirectory(PathOf("victim"));
        File.WriteAllText(PathOf("victim/secret"), "secret");
        await RefuseAsync(w =>
        {
            Add(w, TarEntryType.SymbolicLink, "l", link: "../victim");
            Add(w, TarEntryType.RegularFile, "l/a", "evil");
        });
        await RefuseAsync(w =>
        {
            Add(w, TarEntryType.SymbolicLink, "l", link: "../victim");
            Add(w, TarEntryType.Directory, "l/");
        });
        await RefuseAsync(w =>
        {
            Add(w, TarEntryType.SymbolicLink, "l", link: "../victim");
            Add(w, TarEntryType.HardLink, "h", link: "l/secret");
        });
        await RefuseAsync(w => Add(w, TarEntryType.HardLink, "h", link: "../victim/secret"));
        await RefuseAsync(w => Add(w, TarEntryType.HardLink, "h", link: "/etc/passwd"));
        await RefuseAsync(w => Add(w, TarEntryType.HardLink, "h", link: "./"));
        Assert.Equal(["secret"], Directory.GetFiles(PathOf("victim")).Select(Path.GetFileName));
    }

    [Fact]
    public async Task Devices_are_refused()
    {
        await RefuseAsync(w => w.WriteEntry(new PaxTarEntry(TarEntryType.CharacterDevice, "c") { DeviceMajor = 1, DeviceMinor = 3 }));
        await RefuseAsync(w => w.WriteEntry(new PaxTarEntry(TarEntryType.BlockDevice, "b") { DeviceMajor = 8, DeviceMinor = 0 }));
    }

    [Fact]
    public async Task An_archive_that_is_cut_off_anywhere_is_an_error()
    {
        var archive = Archive(w => Add(w, TarEntryType.RegularFile, "a", new string('x', 700)));
        for (var length = 0; length <= archive.Length - 1024; length += 97)
        {
            await Talk.FailAsync(Request(FileOperation.Unpack, "out"), FileFailureKind.Archive, archive.AsMemory(0, length));
        }
    }

    [Fact]
    public async Task Damaged_headers_and_false_sizes_are_errors()
    {
        await FailAsync(Random(2048));
        await FailAsync(Header("a", '0', size: "77777777777"));
        await FailAsync(Header("a", '0', size: "\u0080\0\0\0\u007f\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff"));
        await FailAsync(Header("a", '0', size: "\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff"));
        await FailAsync(Header("a", '0', size: "9999"));
        await FailAsync(Header("x", 'x', size: "77777777777"));
        await FailAsync(Header("x", 'L', size: "77777777777"));
        await FailAsync(Header("s", 'S', size: "0"));
        await FailAsync(Header("q", 'q', size: "0"));
        string[] records = ["99 path=a\n", "x path=a\n", "8 path=a", "5 a=\n\0\0\0", "9 =value\n", "11 size=-5\n", "12 size=zzz\n",
            "22 GNU.sparse.major=1\n", "18 mtime=tomorrow\n"];
        foreach (var record in records)
        {
            var body = new byte[512];
            Encoding.Latin1.GetBytes(record, body);
            var header = Header("x", 'x', size: Convert.ToString(record.Length, 8));
            await FailAsync([.. header, .. body, .. Header("a", '0', "0"), .. new byte[1024]]);
        }

        Task FailAsync(byte[] archive) => Talk.FailAsync(Request(FileOperation.Unpack, "out"), FileFailureKind.Archive, archive);
    }

    [Fact]
    public async Task Directories_get_their_mode_and_time_at_the_end()
    {
        MakeTree(hasLongNames: false);
        Run("touch", "-d", "@1000000000", PathOf("tree/d"));
        Run("chmod", "555", PathOf("tree/d"));
        var packed = await Talk.DoAsync(Request(FileOperation.Pack, "tree"));
        await Talk.DoAsync(Request(FileOperation.Unpack, "out"), packed.Bytes);
        Assert.Equal(Convert.ToInt32("555", 8), (int)File.GetUnixFileMode(PathOf("out/d")));
        Assert.Equal(1_000_000_000, new DateTimeOffset(Directory.GetLastWriteTimeUtc(PathOf("out/d"))).ToUnixTimeSeconds());
    }

    [Fact]
    public async Task Another_owner_gets_what_is_unpacked()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "only root gives files away");
        MakeTree(hasLongNames: false);
        var packed = await Talk.DoAsync(Request(FileOperation.Pack, "tree"));
        await Talk.DoAsync(Request(FileOperation.Unpack, "out") with { Owner = "65534:65534" }, packed.Bytes);
        var list = await Talk.DoAsync(Request(FileOperation.List, "out") with { Depth = 9 });
        Assert.All(list.Entries, e => Assert.Equal((65534u, 65534u), (e.UserId, e.GroupId)));
        await Talk.DoAsync(Request(FileOperation.MakeDirectory, "shared") with { Mode = 0x1FF });
        Run("chmod", "755", Root);
        await Talk.DoAsync(Request(FileOperation.Unpack, "shared/out") with { User = "65534" }, packed.Bytes);
        Assert.Equal(65534u, (await Talk.DoAsync(Request(FileOperation.Show, "shared/out/d/b"))).Entries[0].UserId);
    }

    private async Task RefuseAsync(Action<TarWriter> write)
    {
        Run("rm", "-rf", PathOf("out"));
        await Talk.FailAsync(Request(FileOperation.Unpack, "out"), FileFailureKind.Archive, Archive(write));
    }

    private static byte[] Archive(Action<TarWriter> write)
    {
        var stream = new MemoryStream();
        using (var writer = new TarWriter(stream, TarEntryFormat.Pax))
        {
            write(writer);
        }

        return stream.ToArray();
    }

    private static void Add(TarWriter writer, TarEntryType type, string name, string? content = null, string? link = null)
    {
        var entry = new PaxTarEntry(type, name);
        if (link is not null)
        {
            entry.LinkName = link;
        }

        if (content is not null)
        {
            entry.DataStream = new MemoryStream(Bytes(content));
        }

        writer.WriteEntry(entry);
    }

    // Texts are bytes here.
    private static byte[] Header(string name, char kind, string size)
    {
        var header = new byte[512];
        Encoding.Latin1.GetBytes(name, header);
        Encoding.Latin1.GetBytes("0000644", header.AsSpan(100));
        Encoding.Latin1.GetBytes(size, header.AsSpan(124));
        header[156] = (byte)kind;
        Encoding.Latin1.GetBytes("ustar\u000000", header.AsSpan(257));
        header.AsSpan(148, 8).Fill((byte)' ');
        Encoding.Latin1.GetBytes(Convert.ToString(header.Sum(b => b), 8).PadLeft(6, '0') + "\0", header.AsSpan(148));
        return header;
    }

    private void MakeTree(bool hasLongNames)
    {
        Directory.CreateDirectory(PathOf("tree/d"));
        Directory.CreateDirectory(PathOf("tree/e"));
        File.WriteAllBytes(PathOf("tree/a"), Random(100_000));
        File.WriteAllText(PathOf("tree/d/b"), "b");
        Run("ln", PathOf("tree/a"), PathOf("tree/hard"));
        File.CreateSymbolicLink(PathOf("tree/link"), "../../somewhere");
        Run("chmod", "4751", PathOf("tree/d/b"));
        if (hasLongNames)
        {
            Directory.CreateDirectory(PathOf($"tree/d/{s_long}"));
            File.WriteAllText(PathOf($"tree/d/{s_long}/ü"), "long");
            File.CreateSymbolicLink(PathOf($"tree/d/{s_long}/link"), s_long + "/" + s_long);
        }

        Run("touch", "-d", "@1234567890.123456789", PathOf("tree/d/b"));
    }

    private long InodeOf(string name) => long.Parse(Output("stat", "-c", "%i", PathOf(name)));

    private string Describe(string name, bool hasParts)
    {
        var time = hasParts ? "%T@" : "%TY-%Tm-%Td %TH:%TM";
        var lines = Output("find", PathOf(name), "-mindepth", "1", "-printf", $"%P %y %m %l {time}\\n");
        var contents = Output("sh", "-c", $"cd '{PathOf(name)}' && find . -type f -exec md5sum {{}} +");
        return string.Join('\n', $"{lines}\n{contents}".Split('\n').Order(StringComparer.Ordinal));
    }

    private static string Output(string program, params string[] arguments)
    {
        using var process = System.Diagnostics.Process.Start(
            new System.Diagnostics.ProcessStartInfo(program, arguments) { RedirectStandardOutput = true })!;
        return process.StandardOutput.ReadToEnd();
    }
}
