using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Pandora.Engine.Admission;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Templates;
using Pandora.Fakes;

namespace Pandora.Tests.Snapshots;

/// <summary>Which snapshots of sizes exist, on real files and without a VMM.</summary>
public sealed class SnapshotSizeTests : IAsyncDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly FakeTimeProvider _time = new();
    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();
    private readonly StartPermits _permits = new(2);
    private readonly List<SnapshotSource> _sources = [];
    private readonly List<string> _made = [];
    private Func<long, bool> _hasRoom = _ => true;
    private Func<CancellationToken, Task> _makeAsync = _ => Task.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        foreach (var source in _sources)
        {
            await source.DisposeAsync();
        }

        await _services.DisposeAsync();
        Assert.Equal(2, _permits.FreeCount);
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public async Task A_size_has_a_snapshot_beside_the_templates_and_a_new_one_replaces_only_its_own()
    {
        var source = Start();
        await MadeAsync(source, Of("web"));
        await MadeAsync(source, Of("web", 512));
        await MadeAsync(source, Of("web-two", 512));
        var store = new SnapshotStore(_directory);
        Assert.Equal(3, Directory.GetDirectories(_directory).Length);
        Assert.Equal(["web", "web", "web-two"], Directory.GetDirectories(_directory).Select(SnapshotStore.TemplateOf).Order());
        var made = store.Begin("web@512m-1c-2048d");
        await WriteAsync(made);
        store.Install(made, "web@512m-1c-2048d", new string('f', 64), _time.GetUtcNow(), default);
        Assert.Equal(3, Directory.GetDirectories(_directory).Length);
        store.DeleteAll("web");
        Assert.Equal("web-two", SnapshotStore.TemplateOf(Directory.GetDirectories(_directory).Single()));
        store.Sweep(name => name == "web");
        Assert.Empty(Directory.GetDirectories(_directory));
    }

    [Fact]
    public async Task The_least_recently_used_size_of_a_template_is_deleted_for_another_one_also_after_a_restart()
    {
        var first = Start();
        await MadeAsync(first, Of("web"));
        foreach (var memory in new[] { 301, 302, 303, 304 })
        {
            await MadeAsync(first, Of("web", memory));
        }

        await MadeAsync(first, Of("other", 301));
        await UseAsync(first, Of("web", 301));
        await first.DisposeAsync();
        var second = Start();
        await MadeAsync(second, Of("web", 305));
        Assert.Equal([301, 303, 304, 305], MemoriesOf("web"));
        Assert.Equal([301], MemoriesOf("other"));
        // The template's own is not counted and not deleted.
        await UseAsync(second, Of("web"));
        var count = _made.Count;
        await UseAsync(second, Of("web", 301));
        Assert.Equal(count, _made.Count);
    }

    [Fact]
    public async Task There_are_no_more_than_sixteen_sizes_in_all()
    {
        var source = Start();
        for (var i = 0; i < 20; i++)
        {
            await MadeAsync(source, Of($"t{i % 10}", 300 + i));
        }

        Assert.Equal(SnapshotSource.MostSizes, new SnapshotStore(_directory).ListSizes().Count);
        Assert.Equal([313], MemoriesOf("t3"));
        Assert.Equal([304, 314], MemoriesOf("t4"));
    }

    [Fact]
    public async Task A_snapshot_in_use_is_not_deleted_and_another_one_is()
    {
        var source = Start();
        foreach (var memory in new[] { 301, 302, 303, 304 })
        {
            await MadeAsync(source, Of("web", memory));
        }

        using (await source.FindAsync(Of("web", 301), default))
        {
            foreach (var memory in new[] { 302, 303, 304 })
            {
                await UseAsync(source, Of("web", memory));
            }

            await MadeAsync(source, Of("web", 305));
            Assert.Equal([301, 303, 304, 305], MemoriesOf("web"));
        }

        await MadeAsync(source, Of("web", 306));
        Assert.Equal([303, 304, 305, 306], MemoriesOf("web"));
    }

    [Fact]
    public async Task When_all_are_in_use_no_snapshot_is_made_and_it_is_tried_again_later()
    {
        var source = Start();
        var uses = new List<SnapshotUse>();
        foreach (var memory in new[] { 301, 302, 303, 304 })
        {
            await MadeAsync(source, Of("web", memory));
            uses.Add((await source.FindAsync(Of("web", memory), default))!);
        }

        source.Prepare(Of("web", 305));
        await FakeNode.UntilAsync(() => _permits.FreeCount == 2);
        Assert.Null(await source.FindAsync(Of("web", 305), default));
        Assert.Equal([301, 302, 303, 304], MemoriesOf("web"));
        uses.ForEach(u => u.Dispose());
        _time.Advance(TimeSpan.FromSeconds(10));
        await MadeAsync(source, Of("web", 305));
    }

    [Fact]
    public async Task Sizes_that_are_made_at_the_same_time_count()
    {
        var go = new TaskCompletionSource();
        var source = Start();
        foreach (var memory in new[] { 301, 302, 303 })
        {
            await MadeAsync(source, Of("web", memory));
        }

        _makeAsync = token => go.Task.WaitAsync(token);
        source.Prepare(Of("web", 304));
        source.Prepare(Of("web", 305));
        await FakeNode.UntilAsync(() => { lock (_made) { return _made.Count == 5; } });
        go.SetResult();
        await FakeNode.UntilAsync(() => _permits.FreeCount == 2);
        Assert.Equal([302, 303, 304, 305], MemoriesOf("web"));
    }

    [Fact]
    public async Task Without_room_on_the_disk_a_size_has_no_snapshot()
    {
        long asked = 0;
        _hasRoom = bytes =>
        {
            asked = bytes;
            return false;
        };
        var source = Start();
        await MadeAsync(source, Of("web"));
        source.Prepare(Of("web", 512));
        await FakeNode.UntilAsync(() => asked == 512L << 20 && _permits.FreeCount == 2);
        Assert.Null(await source.FindAsync(Of("web", 512), default));
        Assert.Equal(["web"], _made);
    }

    [Fact]
    public async Task Sizes_that_never_get_a_snapshot_are_forgotten()
    {
        _hasRoom = _ => false;
        var source = Start();
        for (var i = 0; i < 500; i++)
        {
            source.Prepare(Of("web", 128 + i));
            await FakeNode.UntilAsync(() => _permits.FreeCount == 2);
        }

        Assert.InRange(source.KnownCount, 1, 100);
    }

    private static Template Of(string name, int? memory = null)
    {
        var template = new Template(name, "key", default, 1, 256, "a test's") { DiskMib = 2048 };
        return memory is { } mib ? template.In(new MicroVmSize(mib, 1, 2048)) : template;
    }

    private SnapshotSource Start()
    {
        var source = new SnapshotSource(
            new SnapshotStore(_directory), t => Convert.ToHexStringLower(System.Text.Encoding.UTF8.GetBytes(t.Variant)).PadRight(64, '0'),
            async (template, directory, token) =>
            {
                lock (_made)
                {
                    _made.Add(template.Variant);
                }

                await _makeAsync(token);
                await WriteAsync(directory);
            }, bytes => _hasRoom(bytes), _permits, new EngineMetrics(_services.GetRequiredService<IMeterFactory>()), _time,
            NullLogger.Instance);
        _sources.Add(source);
        return source;
    }

    private async Task MadeAsync(SnapshotSource source, Template template)
    {
        _time.Advance(TimeSpan.FromMilliseconds(10));
        source.Prepare(template);
        await FakeNode.UntilAsync(() => _permits.FreeCount == 2);
        await UseAsync(source, template);
    }

    private async Task UseAsync(SnapshotSource source, Template template)
    {
        _time.Advance(TimeSpan.FromMilliseconds(10));
        using var use = await source.FindAsync(template, default);
        Assert.Equal(template.Variant, use!.Snapshot.Variant);
        await FakeNode.UntilAsync(() => _permits.FreeCount == 2);
    }

    private IEnumerable<int> MemoriesOf(string template) =>
        new SnapshotStore(_directory).ListSizes().Where(v => Template.NameOf(v) == template)
            .Select(v => int.Parse(v.Split('@')[1].Split('m')[0])).Order();

    private static async Task WriteAsync(string directory)
    {
        foreach (var name in new[] { Snapshot.StateName, Snapshot.MemoryName, Snapshot.DiskName })
        {
            await File.WriteAllTextAsync(Path.Combine(directory, name), name);
        }
    }
}
