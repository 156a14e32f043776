using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Admission;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Templates;
using Pandora.Fakes;

namespace Pandora.Tests.Snapshots;

/// <summary>Which snapshot the next microVM starts from, on real files and without a VMM.</summary>
public sealed class SnapshotSourceTests : IAsyncDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly FakeTimeProvider _time = new();
    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();
    private readonly StartPermits _places = new(2);
    private readonly SemaphoreSlim _makes = new(0);
    private readonly Template _template = new("web", "key", default, 1, 256, "a test's");
    private readonly List<SnapshotSource> _sources = [];
    private string _key = "one" + new string('0', 61);
    private int _made;
    private Func<string, CancellationToken, Task> _makeAsync;

    public SnapshotSourceTests() => _makeAsync = (directory, _) => WriteAsync(directory, "content");

    private string Root => Path.Combine(_directory, "snapshots");

    private string[] Entries => Directory.Exists(Root) ? Directory.GetDirectories(Root) : [];

    public async ValueTask DisposeAsync()
    {
        foreach (var source in _sources)
        {
            await source.DisposeAsync();
        }

        await _services.DisposeAsync();
        Assert.Equal(2, _places.FreeCount);
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public async Task MicroVMs_boot_until_a_snapshot_is_made_and_the_next_server_finds_it()
    {
        var first = Start();
        Assert.Null(await first.FindAsync(_template, default));
        var snapshot = await MadeAsync(first);
        Assert.Equal(("web", _key), (snapshot.Variant, snapshot.Key));
        Assert.Equal("content state", await File.ReadAllTextAsync(snapshot.VmmFiles.StatePath));
        await first.DisposeAsync();

        var second = Start();
        Assert.Equal(_key, (await second.FindAsync(_template, default))!.Snapshot.Key);
        Assert.Equal(1, _made);
    }

    [Fact]
    public async Task Another_key_makes_another_snapshot_and_removes_the_old_one()
    {
        var source = Start();
        var old = await MadeAsync(source);
        // The key changes, as when the package of the VMM is upgraded while the server runs.
        _key = "two" + new string('0', 61);
        Assert.Null(await source.FindAsync(_template, default));
        var made = await MadeAsync(source);
        Assert.NotEqual(old.Directory, made.Directory);
        Assert.Equal([made.Directory], Entries);
        Assert.Equal(2, _made);
    }

    [Theory]
    [InlineData("state")]
    [InlineData("memory")]
    [InlineData("disk.ext4")]
    [InlineData("snapshot.json")]
    public async Task A_truncated_file_is_detected_before_use(string name)
    {
        var path = await MadeAndStoppedAsync();
        await using (var file = File.OpenWrite(Path.Combine(path, name)))
        {
            file.SetLength(5);
        }

        await IsMadeAgainAsync();
    }

    [Theory]
    [InlineData("state")]
    [InlineData("memory")]
    [InlineData("disk.ext4")]
    public async Task A_file_of_another_snapshot_with_the_same_length_is_detected(string name)
    {
        var path = await MadeAndStoppedAsync();
        await File.WriteAllTextAsync(Path.Combine(path, name), $"CONTENT {name.Split('.')[0]}");
        await IsMadeAgainAsync();
    }

    [Fact]
    public async Task A_directory_under_the_name_of_another_snapshot_is_detected()
    {
        var path = await MadeAndStoppedAsync();
        _key = "two" + new string('0', 61);
        Directory.Move(path, Path.Combine(Root, $"web-{_key[..16]}"));
        await IsMadeAgainAsync();
    }

    [Fact]
    public async Task A_snapshot_changed_while_the_server_runs_is_not_used_again()
    {
        var source = Start();
        var snapshot = await MadeAsync(source);
        await File.WriteAllTextAsync(snapshot.VmmFiles.MemoryPath, "CONTENT memory");
        Assert.Null(await source.FindAsync(_template, default));
        Assert.Equal("content memory", await File.ReadAllTextAsync((await MadeAsync(source)).VmmFiles.MemoryPath));
        Assert.Equal(2, _made);
    }

    [Fact]
    public async Task A_snapshot_that_fails_to_restore_twice_in_a_row_is_dropped_and_microVMs_boot()
    {
        var source = Start();
        var snapshot = await MadeAsync(source);
        source.Failed(snapshot, new IOException("no"));
        source.Succeeded(snapshot);
        source.Failed(snapshot, new IOException("no"));
        Assert.NotNull(await source.FindAsync(_template, default));
        source.Failed(snapshot, new IOException("no"));
        Assert.Null(await source.FindAsync(_template, default));
        Assert.Empty(Entries);
        _time.Advance(SnapshotSource.LongestPause - TimeSpan.FromSeconds(1));
        Assert.Null(await source.FindAsync(_template, default));
        Assert.Equal(1, _made);
        _time.Advance(TimeSpan.FromSeconds(1));
        await MadeAsync(source);
        Assert.Equal(2, _made);
    }

    [Fact]
    public async Task A_full_disk_causes_a_pause_and_leaves_no_file()
    {
        _makeAsync = async (directory, _) =>
        {
            await WriteAsync(directory, "half");
            throw new IOException("No space left on device");
        };
        var source = Start();
        _makes.Release();
        source.Prepare(_template);
        await FakeNode.UntilAsync(() => _made == 1 && Entries.Length == 0 && _places.FreeCount == 2);
        Assert.Null(await source.FindAsync(_template, default));
        Assert.Equal(1, _made);
        _makeAsync = (directory, _) => WriteAsync(directory, "content");
        _time.Advance(TimeSpan.FromSeconds(10));
        await MadeAsync(source);
    }

    [Fact]
    public async Task A_stop_cancels_a_snapshot_that_is_being_made()
    {
        _makeAsync = async (directory, token) =>
        {
            await WriteAsync(directory, "half");
            await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, token);
        };
        var source = Start();
        _makes.Release();
        source.Prepare(_template);
        await FakeNode.UntilAsync(() => Entries.Length == 1);
        await source.DisposeAsync();
        Assert.Empty(Entries);
    }

    [Fact]
    public async Task Unfinished_snapshots_and_those_of_removed_templates_are_swept()
    {
        var kept = await MadeAndStoppedAsync();
        await WriteAsync(Directory.CreateDirectory(Path.Combine(Root, ".new-web-abc")).FullName, "half");
        Directory.CreateDirectory(Path.Combine(Root, "web-0123456789abcdef"));
        var other = Directory.CreateDirectory(Path.Combine(Root, "old-0123456789abcdef")).FullName;
        File.Copy(Path.Combine(kept, "snapshot.json"), Path.Combine(other, "snapshot.json"));
        new SnapshotStore(Root).Sweep(name => name == "web");
        Assert.Equal([kept], Entries);
    }

    private SnapshotSource Start()
    {
        var source = new SnapshotSource(new SnapshotStore(Root), _ => _key, async (_, directory, token) =>
        {
            Interlocked.Increment(ref _made);
            await _makes.WaitAsync(token);
            await _makeAsync(directory, token);
        }, _ => true, _places, new EngineMetrics(_services.GetRequiredService<IMeterFactory>()), _time, NullLogger.Instance);
        _sources.Add(source);
        return source;
    }

    private async Task<Snapshot> MadeAsync(SnapshotSource source)
    {
        _makes.Release();
        source.Prepare(_template);
        // It counts before its work has ended.
        await FakeNode.UntilAsync(() => source.Count == 1 && _places.FreeCount == 2);
        using var use = await source.FindAsync(_template, default);
        return use!.Snapshot;
    }

    private async Task<string> MadeAndStoppedAsync()
    {
        var source = Start();
        var snapshot = await MadeAsync(source);
        await source.DisposeAsync();
        return snapshot.Directory;
    }

    private async Task IsMadeAgainAsync()
    {
        var source = Start();
        Assert.Null(await source.FindAsync(_template, default));
        var snapshot = await MadeAsync(source);
        Assert.Equal(2, _made);
        Assert.Equal([snapshot.Directory], Entries);
        Assert.Equal("content memory", await File.ReadAllTextAsync(snapshot.VmmFiles.MemoryPath));
    }

    private static async Task WriteAsync(string directory, string content)
    {
        foreach (var name in new[] { Snapshot.StateName, Snapshot.MemoryName, Snapshot.DiskName })
        {
            await File.WriteAllTextAsync(Path.Combine(directory, name), $"{content} {name.Split('.')[0]}");
        }
    }
}
