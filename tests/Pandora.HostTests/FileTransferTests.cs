using System.Net;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using Pandora.Client;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>Large and many files, and transfers that are cut.</summary>
public sealed class FileTransferTests : IAsyncLifetime
{
    private const long Mebibyte = 1024 * 1024, Gibibyte = 1024 * Mebibyte;

    // MiB that the server may use more while a large file passes through it.
    private const double Margin = 40;
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task One_GiB_goes_both_ways_unchanged_and_the_server_stays_small()
    {
        await using var server = await StartAsync();
        await using var sandbox = await CreateAsync(server, diskMib: 3072);
        await PutAsync(server, sandbox, "/root/warm", 8 * Mebibyte);
        var before = ResidentMiB(server);
        using var stop = new CancellationTokenSource();
        var sampling = SampleAsync(server, stop.Token);
        await PutAsync(server, sandbox, "/root/big", Gibibyte);
        var received = await HashOfAsync(server, sandbox, "/root/big");
        await stop.CancelAsync();
        Assert.Equal(await HashOfAsync(Gibibyte), received);
        Assert.True(await sampling - before < Margin, $"the server used {before:0} MiB before and up to {await sampling:0} MiB");
    }

    [Fact]
    public async Task Transfers_cut_at_random_change_nothing_and_can_be_begun_again()
    {
        await using var server = await StartAsync();
        await using var sandbox = await CreateAsync(server);
        const long Size = 8 * Mebibyte;
        await PutAsync(server, sandbox, "/srv/t/file", Size);
        for (var i = 0; i < 8; i++)
        {
            var cutAt = Random.Shared.NextInt64(Size);
            await CutAsync(server, sandbox, "/srv/t/file", Size / 2, cutAt / 2);
            var bytes = await ReadInTwoPartsAsync(server, sandbox, "/srv/t/file", (int)Size, (int)cutAt);
            Assert.Equal(await HashOfAsync(Size), Convert.ToHexString(SHA256.HashData(bytes)));
            Assert.Equal("file\n", (await sandbox.ExecAsync("ls -A /srv/t")).Stdout);
        }

        await PutAsync(server, sandbox, "/srv/t/file", Size / 2);
        Assert.Equal(await HashOfAsync(Size / 2), await HashOfAsync(server, sandbox, "/srv/t/file"));
    }

    [Fact]
    public async Task A_server_killed_while_a_file_is_written_leaves_the_old_file_whole_and_nothing_else()
    {
        await using var server = await StartAsync();
        var sandbox = await CreateAsync(server);
        await PutAsync(server, sandbox, "/srv/t/file", Mebibyte);
        var halfway = new TaskCompletionSource();
        var goOn = new TaskCompletionSource();
        using var source = new PatternStream(16 * Mebibyte)
        {
            BeforeRead = at =>
            {
                if (at < 8 * Mebibyte)
                {
                    return Task.CompletedTask;
                }

                halfway.TrySetResult();
                return goOn.Task;
            },
        };
        using var content = new StreamContent(source);
        var writing = server.Http.PutAsync(Url(sandbox, "/srv/t/file"), content);
        await halfway.Task.WaitAsync(TimeSpan.FromSeconds(60));
        await server.KillAsync();
        goOn.SetResult();
        await Assert.ThrowsAnyAsync<Exception>(() => writing);
        await server.StartAsync();

        Assert.Equal("file\n", (await sandbox.ExecAsync("ls -A /srv/t")).Stdout);
        Assert.Equal(
            await HashOfAsync(Mebibyte), await HashOfAsync(server, sandbox, "/srv/t/file"));
        await PutAsync(server, sandbox, "/srv/t/file", 2 * Mebibyte);
        Assert.Equal($"{2 * Mebibyte}\n", (await sandbox.ExecAsync("stat -c %s /srv/t/file")).Stdout);
        Assert.Equal(0, (await sandbox.EndAsync()).Remaining);
    }

    [Fact]
    public async Task Ten_thousand_files_go_both_ways_with_modes_times_and_links()
    {
        await using var server = await StartAsync();
        await using var sandbox = await CreateAsync(server);
        var work = Directory.CreateTempSubdirectory("pandora-test-").FullName;
        try
        {
            var (from, to) = (Path.Combine(work, "from"), Path.Combine(work, "to"));
            for (var i = 0; i < 10_000; i++)
            {
                var directory = Directory.CreateDirectory(Path.Combine(from, $"{i / 100}")).FullName;
                var path = Path.Combine(directory, $"ä{i}");
                await File.WriteAllTextAsync(path, $"file {i}");
                File.SetUnixFileMode(path, UnixFileMode.UserRead | (i % 2 == 0 ? UnixFileMode.UserExecute : UnixFileMode.GroupRead));
                File.SetLastWriteTimeUtc(path, DateTime.UnixEpoch.AddSeconds(1_000_000_000 + i).AddTicks(1_234_567));
            }

            File.CreateSymbolicLink(Path.Combine(from, "link"), "0/ä7");
            Directory.CreateDirectory(Path.Combine(from, "empty"));
            await sandbox.Files.UploadDirectoryAsync(from, "/srv/tree");
            Assert.Equal("10000\n", (await sandbox.ExecAsync("find /srv/tree -type f | wc -l")).Stdout);
            await sandbox.Files.DownloadDirectoryAsync("/srv/tree", to);
            Assert.Equal(Describe(from), Describe(to));
        }
        finally
        {
            Directory.Delete(work, recursive: true);
        }
    }

    private static List<string> Describe(string root) =>
    [
        .. Directory.EnumerateFileSystemEntries(root, "*", SearchOption.AllDirectories).Select(p => new FileInfo(p)).Select(f =>
            $"{Path.GetRelativePath(root, f.FullName)} {f.LinkTarget} "
            + (f.LinkTarget is not null || f.Attributes.HasFlag(FileAttributes.Directory)
                ? ""
                : $"{f.UnixFileMode} {f.LastWriteTimeUtc:O} {File.ReadAllText(f.FullName)}")).Order(StringComparer.Ordinal),
    ];

    private Task<ServerProcess> StartAsync() => ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1" });

    private static Task<Sandbox> CreateAsync(ServerProcess server, int? diskMib = null) => server.Pandora.CreateAsync(
        new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600), DiskMib = diskMib });

    private static async Task PutAsync(ServerProcess server, Sandbox sandbox, string path, long size)
    {
        using var source = new PatternStream(size);
        using var content = new StreamContent(source, 128 * 1024);
        using var answer = await server.Http.PutAsync(Url(sandbox, path), content);
        Assert.True(answer.IsSuccessStatusCode, $"{answer.StatusCode} {await answer.Content.ReadAsStringAsync()}");
    }

    // Breaks off the upload once the given number of bytes was read.
    private static async Task CutAsync(ServerProcess server, Sandbox sandbox, string path, long size, long cutAt)
    {
        using var cut = new CancellationTokenSource();
        using var source = new PatternStream(size) { BeforeRead = at => at >= cutAt ? cut.CancelAsync() : Task.CompletedTask };
        using var content = new StreamContent(source);
        await Assert.ThrowsAnyAsync<Exception>(() => server.Http.PutAsync(Url(sandbox, path), content, cut.Token));
    }

    // A download that breaks off goes on where it was cut.
    private static async Task<byte[]> ReadInTwoPartsAsync(ServerProcess server, Sandbox sandbox, string path, int size, int cutAt)
    {
        var bytes = new byte[size];
        await using (var first = await server.Http.GetStreamAsync(Url(sandbox, path)))
        {
            await first.ReadExactlyAsync(bytes.AsMemory(0, cutAt));
        }

        using var request = new HttpRequestMessage(HttpMethod.Get, Url(sandbox, path));
        request.Headers.Range = new RangeHeaderValue(cutAt, null);
        using var rest = await server.Http.SendAsync(request);
        Assert.Equal(HttpStatusCode.PartialContent, rest.StatusCode);
        (await rest.Content.ReadAsByteArrayAsync()).CopyTo(bytes, cutAt);
        return bytes;
    }

    private static Uri Url(Sandbox sandbox, string path) => new($"/sandboxes/{sandbox.Id}/files?path={path}", UriKind.Relative);

    private static async Task<string> HashOfAsync(long size)
    {
        using var pattern = new PatternStream(size);
        return Convert.ToHexString(await SHA256.HashDataAsync(pattern));
    }

    private static async Task<string> HashOfAsync(ServerProcess server, Sandbox sandbox, string path)
    {
        await using var stream = await server.Http.GetStreamAsync(Url(sandbox, path));
        return Convert.ToHexString(await SHA256.HashDataAsync(stream));
    }

    private static async Task<double> SampleAsync(ServerProcess server, CancellationToken cancellationToken)
    {
        var most = 0.0;
        while (!cancellationToken.IsCancellationRequested)
        {
            most = Math.Max(most, ResidentMiB(server));
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, CancellationToken.None);
        }

        return most;
    }

    private static double ResidentMiB(ServerProcess server) => double.Parse(
        File.ReadLines($"/proc/{server.Pid}/status").First(l => l.StartsWith("VmRSS:", StringComparison.Ordinal))
            .Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) / 1024;
}
