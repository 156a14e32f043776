using System.Formats.Tar;
using System.Text;
using Pandora.Client;

namespace Pandora.Tests.Client.Files;

/// <summary>Archives that the root of a sandbox could send: nothing of them gets out of the destination, and nothing hangs.</summary>
public sealed class ExtractionTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-extraction").FullName;

    private string Target => Path.Combine(_directory, "target");

    private string Outside => Path.Combine(_directory, "outside");

    public ExtractionTests()
    {
        Directory.CreateDirectory(Target);
        Directory.CreateDirectory(Outside);
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData("/etc/x", "absolute")]
    [InlineData("../x", "leads out")]
    [InlineData("a/../../x", "leads out")]
    [InlineData("a/..", "leads out")]
    public async Task A_name_that_leads_out_is_refused(string name, string words)
    {
        var error = await RefusedAsync(w => w.WriteEntry(File("ok")), w => w.WriteEntry(File(name)));
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
        Assert.Contains("1 file with 4 bytes were kept", error.Message, StringComparison.Ordinal);
        Assert.Equal(1, error.Kept!.Files);
        Assert.Empty(Directory.EnumerateFileSystemEntries(Outside));
        Assert.Equal(["ok"], Names());
    }

    [Fact]
    public async Task A_name_with_a_backslash_is_one_name_and_one_with_NUL_is_refused()
    {
        await ExtractAsync(w => w.WriteEntry(File("a\\..\\b")));
        Assert.Equal(["a\\..\\b"], Names());
        // As pax: in a ustar header a NUL ends the name.
        var archive = Archive(w => w.WriteEntry(File(new string('a', 150))));
        var at = archive.AsSpan().IndexOf("path=aaa"u8);
        archive[at + 7] = 0;
        await Assert.ThrowsAsync<InvalidDataException>(() => RunAsync(archive, new DownloadOptions()));
    }

    [Fact]
    public async Task A_link_of_the_archive_is_not_gone_through()
    {
        Directory.CreateDirectory(Path.Combine(Target, "real"));
        var error = await RefusedAsync(w => w.WriteEntry(Link("link", "real")), w => w.WriteEntry(File("link/x")));
        Assert.Contains("leads through a link", error.Message, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFileSystemEntries(Path.Combine(Target, "real")));
    }

    [Theory]
    [InlineData("dir/x")]
    [InlineData("dir/deeper/x")]
    public async Task A_link_that_was_there_is_not_gone_through(string name)
    {
        System.IO.File.CreateSymbolicLink(Path.Combine(Target, "dir"), Outside);
        await RefusedAsync(w => w.WriteEntry(File(name)));
        await RefusedAsync(w => w.WriteEntry(new PaxTarEntry(TarEntryType.Directory, "dir")));
        Assert.Empty(Directory.EnumerateFileSystemEntries(Outside));
    }

    [Fact]
    public async Task A_link_in_the_place_of_a_file_is_replaced_itself()
    {
        var outside = Path.Combine(Outside, "file");
        await System.IO.File.WriteAllTextAsync(outside, "old", TestContext.Current.CancellationToken);
        System.IO.File.CreateSymbolicLink(Path.Combine(Target, "x"), outside);
        await ExtractAsync(w => w.WriteEntry(File("x")));
        Assert.Equal("old", await System.IO.File.ReadAllTextAsync(outside, TestContext.Current.CancellationToken));
        Assert.Null(new FileInfo(Path.Combine(Target, "x")).LinkTarget);
    }

    [Theory]
    [InlineData("/etc/passwd", false)]
    [InlineData("..", false)]
    [InlineData("a/../..", false)]
    [InlineData("sub/../x", false)]
    [InlineData("x", true)]
    [InlineData("./a/b", true)]
    public async Task A_link_at_the_top_is_made_only_when_it_stays_inside(string target, bool isMade)
    {
        var result = await ExtractAsync(w => w.WriteEntry(Link("link", target)));
        Assert.Equal((isMade ? 1 : 0, isMade ? 0 : 1), (result.Links, result.SkippedCount));
        Assert.Equal(isMade ? target : null, new FileInfo(Path.Combine(Target, "link")).LinkTarget);
    }

    [Fact]
    public async Task A_chain_of_links_does_not_lead_out()
    {
        // "a/b" is the root itself, and "a/b/.." would be outside of it.
        var result = await ExtractAsync(
            w => w.WriteEntry(new PaxTarEntry(TarEntryType.Directory, "a")), w => w.WriteEntry(Link("a/b", "..")),
            w => w.WriteEntry(Link("c", "a/b/..")), w => w.WriteEntry(Link("a/d", "../..")));
        Assert.Equal(["c", "a/d"], result.Skipped.Select(s => s.Path));
        Assert.Equal("..", new FileInfo(Path.Combine(Target, "a/b")).LinkTarget);
        Assert.Equal(["a"], Directory.EnumerateFileSystemEntries(Target).Select(Path.GetFileName));
        Assert.Equal(["b"], Directory.EnumerateFileSystemEntries(Path.Combine(Target, "a")).Select(Path.GetFileName));
    }

    [Fact]
    public async Task A_hard_link_is_a_copy_and_only_of_what_is_inside()
    {
        var result = await ExtractAsync(w => w.WriteEntry(File("one")), w => w.WriteEntry(HardLink("two", "one")));
        Assert.Equal((2, 8), (result.Files, result.Bytes));
        Assert.Equal("data", await System.IO.File.ReadAllTextAsync(Path.Combine(Target, "two"), TestContext.Current.CancellationToken));
        await RefusedAsync(w => w.WriteEntry(HardLink("three", "../outside/file")));
        await RefusedAsync(w => w.WriteEntry(HardLink("three", "/etc/passwd")));
        await RefusedAsync(w => w.WriteEntry(Link("in", "one")), w => w.WriteEntry(HardLink("three", "in")));
        Assert.Equal(["in", "one", "two"], Names());
    }

    [Fact]
    public async Task Devices_and_FIFOs_are_left_out_and_reported()
    {
        var result = await ExtractAsync(
            w => w.WriteEntry(new PaxTarEntry(TarEntryType.CharacterDevice, "null") { DeviceMajor = 1, DeviceMinor = 3 }),
            w => w.WriteEntry(new PaxTarEntry(TarEntryType.BlockDevice, "sda") { DeviceMajor = 8, DeviceMinor = 0 }),
            w => w.WriteEntry(new PaxTarEntry(TarEntryType.Fifo, "fifo")), w => w.WriteEntry(File("file")));
        Assert.Equal(3, result.SkippedCount);
        Assert.Equal(["null", "sda", "fifo"], result.Skipped.Select(s => s.Path));
        Assert.Equal(["file"], Names());
    }

    [Fact]
    public async Task Setuid_setgid_and_sticky_are_removed()
    {
        await ExtractAsync(
            w => w.WriteEntry(new PaxTarEntry(TarEntryType.Directory, "d") { Mode = (UnixFileMode)0xFED }),
            w => w.WriteEntry(new PaxTarEntry(TarEntryType.RegularFile, "d/f") { Mode = (UnixFileMode)0xFED }));
        Assert.Equal((UnixFileMode)0x1ED, System.IO.File.GetUnixFileMode(Path.Combine(Target, "d")));
        Assert.Equal((UnixFileMode)0x1ED, System.IO.File.GetUnixFileMode(Path.Combine(Target, "d/f")));
    }

    [Fact]
    public async Task A_bomb_ends_before_its_bytes_are_written()
    {
        var options = new DownloadOptions { MaxBytes = 6 };
        var error = await Assert.ThrowsAsync<InvalidDataException>(
            () => RunAsync(Archive(w => w.WriteEntry(File("a")), w => w.WriteEntry(File("b"))), options));
        Assert.Contains("more than the 6 bytes", error.Message, StringComparison.Ordinal);
        Assert.Equal(["a"], Names());
        // A size that the header only claims.
        var claimed = Archive(w => w.WriteEntry(File("c")));
        var bounded = new DownloadOptions { MaxBytes = 1L << 30 };
        await Assert.ThrowsAsync<InvalidDataException>(() => RunAsync(WithSize(claimed, 0x1FFFFFFFF), bounded));
        Assert.Equal(["a"], Names());
    }

    [Fact]
    public async Task More_entries_than_are_taken_are_refused()
    {
        var archive = Archive([.. Enumerable.Range(0, 4).Select(i => (Action<TarWriter>)(w => w.WriteEntry(File($"{i}"))))]);
        var error = await Assert.ThrowsAsync<InvalidDataException>(() => RunAsync(archive, new DownloadOptions { MaxEntries = 3 }));
        Assert.Contains("3 entries", error.Message, StringComparison.Ordinal);
        Assert.Equal(["0", "1", "2"], Names());
    }

    [Fact]
    public async Task A_header_without_end_is_refused_before_it_is_read()
    {
        var archive = WithSize(Archive(w => w.WriteEntry(File(new string('a', 150)))), 0x3FFFFFFF);
        var error = await Assert.ThrowsAsync<InvalidDataException>(() => RunAsync(archive, new DownloadOptions()));
        Assert.Contains("header", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Headers_without_an_entry_take_no_memory_and_have_an_end()
    {
        using var archive = new HeadersWithoutEnd();
        var before = GC.GetAllocatedBytesForCurrentThread();
        var reading = new TarInput(archive).NextAsync(TestContext.Current.CancellationToken);
        // The archive is in memory: all is done by this thread.
        Assert.True(reading.IsCompleted);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 16 << 20);
        var error = await Assert.ThrowsAsync<InvalidDataException>(() => reading);
        Assert.Contains("headers", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Content_that_is_not_kept_counts_too()
    {
        var options = new DownloadOptions { MaxBytes = 1 << 20 };
        var archive = Archive(w => w.WriteEntry(File("c")));
        archive[1024 + 156] = (byte)'Z';
        await Assert.ThrowsAsync<InvalidDataException>(() => RunAsync(WithSize(archive, 0x1FFFFFFFF), options));
    }

    [Theory]
    [InlineData("file", true)]
    [InlineData("file.txt", true)]
    [InlineData("console", true)]
    [InlineData("con", false)]
    [InlineData("NUL.txt", false)]
    [InlineData("com1", false)]
    [InlineData("LPT9.a.b", false)]
    [InlineData("a:b", false)]
    [InlineData("a\\b", false)]
    [InlineData("dots.", false)]
    [InlineData(".. ", false)]
    [InlineData("tab\t", false)]
    public void A_name_that_Windows_takes_for_another_is_none(string name, bool isName) =>
        Assert.Equal(isName, LocalExtraction.IsWindowsName(name));

    [Fact]
    public async Task An_archive_that_was_cut_anywhere_is_never_taken_for_whole()
    {
        var archive = Archive(w => w.WriteEntry(File("a")), w => w.WriteEntry(File(new string('n', 150))));
        for (var length = 0; length < archive.Length; length += 64)
        {
            if (length >= archive.Length - 64 && archive.Length % 64 == 0)
            {
                break;
            }

            await Assert.ThrowsAnyAsync<EndOfStreamException>(() => RunAsync(archive[..length], new DownloadOptions()));
        }

        await RunAsync(archive, new DownloadOptions());
    }

    [Fact]
    public async Task Random_damage_is_an_error_or_nothing_but_never_a_file_outside()
    {
        var archive = Archive(
            w => w.WriteEntry(new PaxTarEntry(TarEntryType.Directory, "d")), w => w.WriteEntry(File("d/a")),
            w => w.WriteEntry(Link("l", "d/a")), w => w.WriteEntry(File(new string('n', 150))));
        var random = new Random(7);
        for (var i = 0; i < 300; i++)
        {
            var damaged = archive.ToArray();
            for (var n = 0; n < 3; n++)
            {
                damaged[random.Next(damaged.Length)] = (byte)random.Next(256);
            }

            try
            {
                await RunAsync(damaged, new DownloadOptions { MaxBytes = 1 << 20 });
            }
            catch (Exception e) when (e is InvalidDataException or IOException)
            {
                // Refused.
            }
        }

        Assert.Empty(Directory.EnumerateFileSystemEntries(Outside));
        Assert.Equal(["outside", "target"], Directory.EnumerateFileSystemEntries(_directory).Select(Path.GetFileName).Order());
    }

    /// <summary>Pax headers, each with other records, up to 64 MiB.</summary>
    private sealed class HeadersWithoutEnd : MemoryStream
    {
        private const int Size = 512 * 1024;
        private readonly byte[] _header = WithSize(Archive(w => w.WriteEntry(File(new string('a', 150))))[..512], Size);
        private readonly byte[] _record = new byte[Size];
        private int _headers, _at;

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (_headers == 128)
            {
                return ValueTask.FromResult(0);
            }

            var part = _at < 512 ? _header.AsSpan(_at..) : Record().AsSpan(_at - 512);
            var length = Math.Min(part.Length, buffer.Length);
            part[..length].CopyTo(buffer.Span);
            (_headers, _at) = _at + length == 512 + Size ? (_headers + 1, 0) : (_headers, _at + length);
            return ValueTask.FromResult(length);
        }

        private byte[] Record()
        {
            Encoding.ASCII.GetBytes($"{Size} key{_headers}=").CopyTo(_record, 0);
            _record[^1] = (byte)'\n';
            return _record;
        }
    }

    private static PaxTarEntry File(string name) =>
        new(TarEntryType.RegularFile, name) { DataStream = new MemoryStream("data"u8.ToArray()) };

    private static PaxTarEntry Link(string name, string target) => new(TarEntryType.SymbolicLink, name) { LinkName = target };

    private static PaxTarEntry HardLink(string name, string target) => new(TarEntryType.HardLink, name) { LinkName = target };

    private static byte[] Archive(params ReadOnlySpan<Action<TarWriter>> entries)
    {
        using var archive = new MemoryStream();
        using (var writer = new TarWriter(archive, TarEntryFormat.Pax, leaveOpen: true))
        {
            foreach (var entry in entries)
            {
                entry(writer);
            }
        }

        return archive.ToArray();
    }

    // Of the first header that has no more than the size to change: System.Formats.Tar writes a pax header before each entry.
    private static byte[] WithSize(byte[] archive, long size)
    {
        var at = size > int.MaxValue ? 1024 : 0;
        Encoding.ASCII.GetBytes(Convert.ToString(size, 8).PadLeft(11, '0')).CopyTo(archive.AsSpan(at + 124));
        archive.AsSpan(at + 148, 8).Fill((byte)' ');
        var sum = archive.AsSpan(at, 512).ToArray().Sum(b => b);
        Encoding.ASCII.GetBytes(Convert.ToString(sum, 8).PadLeft(6, '0') + "\0").CopyTo(archive.AsSpan(at + 148));
        return archive;
    }

    private async Task<TransferResult> RunAsync(byte[] archive, DownloadOptions options)
    {
        var count = new TransferCount(null);
        using var stream = new MemoryStream(archive);
        await new LocalExtraction(Target, options, count).RunAsync(new TarInput(stream), TestContext.Current.CancellationToken);
        return count.Result;
    }

    private Task<TransferResult> ExtractAsync(params ReadOnlySpan<Action<TarWriter>> entries) =>
        RunAsync(Archive(entries), new DownloadOptions());

    private async Task<FileTransferException> RefusedAsync(params Action<TarWriter>[] entries)
    {
        await using var server = await FilesServer.StartAsync();
        server.Archive = Archive(entries);
        Directory.CreateDirectory(server.Local("d"));
        using var pandora = new PandoraClient(server.Url);
        return await Assert.ThrowsAsync<FileTransferException>(() => pandora.Connect("abc").Files.DownloadDirectoryAsync(
            "d", Target, cancellationToken: TestContext.Current.CancellationToken));
    }

    private IEnumerable<string> Names() => Directory
        .EnumerateFileSystemEntries(Target, "*", new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0 })
        .Select(f => Path.GetRelativePath(Target, f)).Order(StringComparer.Ordinal);
}
