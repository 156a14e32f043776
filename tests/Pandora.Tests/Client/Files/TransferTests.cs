using Pandora.Client;
using Pandora.Linux;

namespace Pandora.Tests.Client.Files;

/// <summary>Files and directories between this host and a sandbox, with System.Formats.Tar at the other end.</summary>
public sealed class TransferTests : IAsyncLifetime
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-transfers").FullName;
    private FilesServer _server = null!;
    private PandoraClient _pandora = null!;

    private SandboxFiles Files => _pandora.Connect("abc").Files;

    private string Source => Path.Combine(_directory, "source");

    public async ValueTask InitializeAsync()
    {
        _server = await FilesServer.StartAsync();
        _pandora = new PandoraClient(_server.Url);
        Directory.CreateDirectory(Source);
    }

    public async ValueTask DisposeAsync()
    {
        _pandora.Dispose();
        await _server.DisposeAsync();
        Directory.Delete(_directory, recursive: true);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_tree_comes_back_as_it_went(bool isCompressed)
    {
        var longName = new string('n', 200);
        Write("run.sh", "#!/bin/sh\n", 0x1ED);
        Write("ü/häßlich", "text", 0x180);
        Write($"deep/{longName}/{longName}", "x", 0x1A4);
        Write("empty", "", 0x1A4);
        Directory.CreateDirectory(Path.Combine(Source, "nothing"), (UnixFileMode)0x1C8);
        File.CreateSymbolicLink(Path.Combine(Source, "ü/link"), "../run.sh");
        File.SetLastWriteTimeUtc(Path.Combine(Source, "run.sh"), DateTime.UnixEpoch.AddTicks(12_345_678_901_234_567));
        Directory.SetLastWriteTimeUtc(Path.Combine(Source, "nothing"), DateTime.UnixEpoch.AddDays(365));

        var reports = new Reports();
        var sent = await Files.UploadDirectoryAsync(
            Source, "work/tree", new UploadOptions { IsCompressed = isCompressed, Owner = "nobody" }, reports, Token);
        Assert.Equal((4, 4, 1, 15, 0), (sent.Files, sent.Directories, sent.Links, sent.Bytes, sent.SkippedCount));
        Assert.Equal((15L, 15L, 4L), (reports.Last.Bytes, reports.Last.TotalBytes!.Value, reports.Last.Files));
        Assert.StartsWith("PUT /tar?path=work%2Ftree&owner=nobody&sparse=true", _server.Requests[^1], StringComparison.Ordinal);

        Assert.Equal(File.GetLastWriteTimeUtc(Path.Combine(Source, "run.sh")), File.GetLastWriteTimeUtc(_server.Local("work/tree/run.sh")));

        var target = Path.Combine(_directory, "target");
        var got = await Files.DownloadDirectoryAsync("work/tree", target, new DownloadOptions { IsCompressed = isCompressed }, null, Token);
        Assert.Equal((4, 4, 1, 15), (got.Files, got.Directories, got.Links, got.Bytes));
        Assert.Equal(await DescribeAsync(Source), await DescribeAsync(target));
        Assert.Equal("../run.sh", new FileInfo(Path.Combine(target, "ü/link")).LinkTarget);
    }

    [Fact]
    public async Task A_file_keeps_its_mode_its_time_and_its_holes()
    {
        const int Size = 8 * 1024 * 1024;
        Write("sparse", "", 0x1E8);
        await using (var file = File.OpenWrite(Path.Combine(Source, "sparse")))
        {
            file.Position = Size / 2;
            file.Write("middle"u8);
            file.SetLength(Size);
        }

        var time = DateTime.UnixEpoch.AddTicks(9_876_543_210_123_456);
        File.SetLastWriteTimeUtc(Path.Combine(Source, "sparse"), time);
        await Files.UploadFileAsync(Path.Combine(Source, "sparse"), "s", null, null, Token);
        Assert.Contains("mode=0750&sparse=true&modified_at=987654321.0123456", _server.Requests[^1], StringComparison.Ordinal);

        var target = Path.Combine(_directory, "copy");
        var result = await Files.DownloadFileAsync("s", target, null, null, Token);
        Assert.Equal((1, Size), (result.Files, result.Bytes));
        Assert.Equal((UnixFileMode)0x1E8, File.GetUnixFileMode(target));
        Assert.Equal(time, File.GetLastWriteTimeUtc(target));
        Assert.Equal(await File.ReadAllBytesAsync(Path.Combine(Source, "sparse"), Token), await File.ReadAllBytesAsync(target, Token));
        var blocks = (await Command.RunAsync("stat", ["-c", "%b", target])).Trim();
        Assert.InRange(int.Parse(blocks, System.Globalization.CultureInfo.InvariantCulture), 1, 64);
    }

    [Fact]
    public async Task Setuid_is_not_taken_out_of_a_sandbox_and_a_device_is_not_replaced()
    {
        await File.WriteAllTextAsync(_server.Local("su"), "x", Token);
        File.SetUnixFileMode(_server.Local("su"), (UnixFileMode)0x9ED);
        var target = Path.Combine(_directory, "su");
        await Files.DownloadFileAsync("su", target, null, null, Token);
        Assert.Equal((UnixFileMode)0x1ED, File.GetUnixFileMode(target));
        var fifo = Path.Combine(_directory, "fifo");
        await Command.RunAsync("mkfifo", [fifo]);
        var reading = Command.RunAsync("cat", [fifo]);
        await Files.DownloadFileAsync("su", fifo, null, null, Token);
        Assert.Equal("x", (await reading).Trim());
        Assert.Equal("fifo", (await Command.RunAsync("stat", ["-c", "%F", fifo])).Trim());
    }

    [Fact]
    public async Task A_file_larger_than_the_limit_leaves_the_local_one_as_it_was()
    {
        await File.WriteAllBytesAsync(_server.Local("large"), new byte[5000], Token);
        var target = Path.Combine(_directory, "kept");
        await File.WriteAllTextAsync(target, "old", Token);
        await Assert.ThrowsAsync<FileTransferException>(
            () => Files.DownloadFileAsync("large", target, new DownloadOptions { MaxBytes = 4999 }, null, Token));
        Assert.Equal("old", await File.ReadAllTextAsync(target, Token));
        Assert.Equal(["kept", "source"], Directory.EnumerateFileSystemEntries(_directory).Select(Path.GetFileName).Order());
    }

    [Fact]
    public async Task Fifos_and_names_that_are_not_UTF_8_are_left_out_and_reported()
    {
        Write("file", "1", 0x1A4);
        await Command.RunAsync("mkfifo", [Path.Combine(Source, "fifo")]);
        await Command.RunAsync("bash", ["-c", "touch \"$1\"/$'bad\\xff'", "bash", Source]);
        var sent = await Files.UploadDirectoryAsync(Source, "w", null, null, Token)
            .WaitAsync(TimeSpan.FromMinutes(1), TimeProvider.System, Token);
        Assert.Equal((1, 2), (sent.Files, sent.SkippedCount));
        Assert.Equal(
            ["it is no regular file, directory or link", "its name is not UTF-8"], sent.Skipped.Select(s => s.Reason).Order());
        Assert.Equal(["file"], Directory.EnumerateFileSystemEntries(_server.Local("w")).Select(Path.GetFileName));
        // .NET cannot delete such a name.
        await Command.RunAsync("rm", ["-r", Source]);
    }

    [Fact]
    public async Task A_file_that_becomes_shorter_while_it_is_sent_ends_the_transfer_with_its_name()
    {
        await File.WriteAllBytesAsync(Path.Combine(Source, "log"), new byte[4_000_000], Token);
        var progress = new Reports { Reported = p => Shorten(p.Bytes) };
        var error = await Assert.ThrowsAsync<FileTransferException>(() => Files.UploadDirectoryAsync(Source, "w", null, progress, Token));
        Assert.Contains("'log' became shorter", error.Message, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFileSystemEntries(_server.Home, "log", SearchOption.AllDirectories));
    }

    [Fact]
    public async Task What_git_ignores_and_what_patterns_name_is_left_out()
    {
        Write(".gitignore", "*.log\n!keep.log\nbuild/\n", 0x1A4);
        Write("a.log", "", 0x1A4);
        Write("keep.log", "", 0x1A4);
        Write("build/out", "", 0x1A4);
        Write(".git/config", "", 0x1A4);
        Write("src/.gitignore", "!a.log\n/only\n", 0x1A4);
        Write("src/a.log", "", 0x1A4);
        Write("src/only", "", 0x1A4);
        Write("src/deep/only", "", 0x1A4);
        Write("secret.env", "", 0x1A4);
        await Files.UploadDirectoryAsync(
            Source, "w", new UploadOptions { ExcludesIgnored = true, Exclude = ["*.env"] }, null, Token);
        Assert.Equal(
            [".gitignore", "keep.log", "src/.gitignore", "src/a.log", "src/deep/only"],
            Directory.EnumerateFiles(_server.Local("w"), "*", SearchOption.AllDirectories)
                .Select(f => Path.GetRelativePath(_server.Local("w"), f)).Order(StringComparer.Ordinal));
    }

    private void Shorten(long sent)
    {
        if (sent > 0)
        {
            using var file = new FileStream(Path.Combine(Source, "log"), FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
            file.SetLength(10);
        }
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private void Write(string path, string text, int mode)
    {
        var file = Path.Combine(Source, path);
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        File.WriteAllText(file, text);
        File.SetUnixFileMode(file, (UnixFileMode)mode);
    }

    // .NET has times to 100 ns.
    private static async Task<string> DescribeAsync(string directory) => await Command.RunAsync(
        "bash", ["-c", "cd \"$1\" && find . -mindepth 1 \\( -type l -printf '%P %l\\n' -o -printf '%P %m %y %T@ ' -exec bash -c "
            + "'[ -f \"$1\" ] && md5sum < \"$1\" || echo' bash {} \\; \\) | sort | sed -E 's/(\\.[0-9]{7})[0-9]+/\\1/' "
            + "| grep -v '^ü [0-9]\\|^deep'", "bash", directory]);

    private sealed class Reports : IProgress<TransferProgress>
    {
        public Action<TransferProgress> Reported { get; init; } = _ => { };

        public TransferProgress Last { get; private set; } = new(0, null, 0, null);

        public void Report(TransferProgress value)
        {
            Last = value;
            Reported(value);
        }
    }
}
