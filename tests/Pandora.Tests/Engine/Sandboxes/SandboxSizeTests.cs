using System.Text.Json;
using Pandora.Engine;
using Pandora.Engine.Admission;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Snapshots;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

/// <summary>Sandboxes in the sizes that clients ask for, on the real node.</summary>
public sealed class SandboxSizeTests
{
    [Fact]
    public async Task A_size_boots_at_its_first_use_and_is_restored_later()
    {
        await using var node = new FakeNode(
            new EngineOptions { PoolSize = 0, MaxSandboxes = 9 }, bootsAreFree: false, hasAgents: true, canSnapshot: true);
        var wanted = new WantedSize(512, 2, 4096);
        var creating = CreateAsync(node, wanted);
        // The client's, and those of the snapshots of the template and of the size.
        await FakeNode.UntilAsync(() => node.BootAttempts == 3);
        node.AllowBoots(99);
        var first = await creating;
        Assert.Equal((PoolStart.Boot, new MicroVmSize(512, 2, 4096)), (first.Start, first.Sandbox.Status.Size));
        var spec = node.Vmm.SpecOf(first.Sandbox.Id);
        Assert.Equal((512, 2), (spec.MemoryMiB, spec.VcpuCount));
        Assert.Equal(4096L << 20, new FileInfo(spec.Drives[1].Path).Length);
        Assert.Contains("\"size\":{\"memory_mib\":512,\"vcpus\":2,\"disk_mib\":4096}", File.ReadAllText(node.RecordOf(first.Sandbox.Id)));

        await FakeNode.UntilAsync(() => SizesOf(node).Count == 1);
        Assert.Equal("default@512m-2c-4096d", SizesOf(node)[0]);
        // The first microVM and that of the snapshot.
        Assert.Equal([4096, 4096], node.Formatted);
        CreatedSandbox later;
        do
        {
            later = await CreateAsync(node, wanted);
        }
        while (later.Start == PoolStart.Boot && node.Sandboxes.Count < 9);
        Assert.Equal((PoolStart.Snapshot, first.Sandbox.Status.Size), (later.Start, later.Sandbox.Status.Size));
        Assert.Equal(4096L << 20, new FileInfo(node.Vmm.SpecOf(later.Sandbox.Id).Drives[1].Path).Length);
        Assert.Equal("default", later.Sandbox.Template);
    }

    [Fact]
    public async Task A_size_that_is_the_templates_own_is_served_from_the_warm_pool()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1, MaxSandboxes = 9 });
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 1);
        Assert.True((await CreateAsync(node, new WantedSize(256, 1, 2048))).IsWarm);
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 1);
        Assert.True((await CreateAsync(node, new WantedSize(Vcpus: 1))).IsWarm);
        Assert.Empty(node.Formatted);
        Assert.Single(node.Engine.Pools.All);
    }

    [Fact]
    public async Task A_size_outside_of_the_templates_bounds_starts_nothing()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0 });
        node.AddTemplate("small", t => t with { MaxMemoryMib = 512, MaxVcpus = 1 });
        foreach (var (wanted, field) in new (WantedSize, string)[] { (new(MemoryMib: 513), "memory_mib"), (new(Vcpus: 2), "vcpus") })
        {
            var refused = await Assert.ThrowsAsync<PandoraException>(() => CreateAsync(node, wanted, "small"));
            Assert.Equal((PandoraError.InvalidRequest, field), (refused.Error, refused.Field));
        }

        Assert.Equal(0, node.BootAttempts);
        Assert.Equal(512, (await CreateAsync(node, new WantedSize(MemoryMib: 512), "small")).Sandbox.Status.Size!.MemoryMib);
        // The template is built again with other bounds while its pools exist.
        node.AddTemplate("small", t => t with { MaxMemoryMib = 1024, MaxVcpus = 2 });
        Assert.Equal(2, (await CreateAsync(node, new WantedSize(Vcpus: 2), "small")).Sandbox.Status.Size!.Vcpus);
    }

    [Fact]
    public async Task A_client_that_asks_for_a_size_gets_no_warm_microVM_of_an_older_build_with_another_size()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1, MaxSandboxes = 9 });
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 1);
        node.AddTemplate("default", t => t with { MemoryMiB = 512 });
        Assert.Equal(512, (await CreateAsync(node, new WantedSize(MemoryMib: 512))).Sandbox.Status.Size!.MemoryMib);
        await FakeNode.UntilAsync(() => node.Booted[0].Machine.IsDisposed);
        Assert.Equal(512, node.Pool.MicroVmSize!.MemoryMib);
    }

    [Fact]
    public async Task The_size_is_part_of_what_an_idempotency_key_stands_for()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0 });
        SandboxRequest Request(WantedSize? size) => new(IdempotencyKey: "key", Size: size);
        var first = await node.Sandboxes.CreateAsync(Request(new(MemoryMib: 512)), default);
        var again = await node.Sandboxes.CreateAsync(Request(new(MemoryMib: 512)), default);
        Assert.Equal((first.Sandbox, true, PoolStart.Boot), (again.Sandbox, again.IsReplayed, again.Start));
        foreach (var other in new WantedSize?[] { null, new(MemoryMib: 513), new(Vcpus: 512), new(512, DiskMib: 2048) })
        {
            var refused = await Assert.ThrowsAsync<PandoraException>(() => node.Sandboxes.CreateAsync(Request(other), default));
            Assert.Equal(PandoraError.IdempotencyMismatch, refused.Error);
        }

        // As before sizes existed, so that the keys of an older server's sandboxes stay valid.
        Assert.Equal(new SandboxRequest().Hash(), new SandboxRequest(Size: null).Hash());
    }

    [Fact]
    public async Task A_sandbox_of_a_size_outlives_its_server_and_an_unclaimed_microVM_of_a_size_does_not()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0 });
        var sandbox = (await CreateAsync(node, new WantedSize(MemoryMib: 512))).Sandbox;
        using var lease = node.Engine.Pools.Find("default", new WantedSize(MemoryMib: 300), "default")!;
        var unclaimed = (await lease.ClaimAsync("default", TimeSpan.FromSeconds(9), default)).MicroVm;
        await node.RestartAsync(isKilled: false);
        var status = node.Sandboxes.Get(sandbox.Id).Status;
        Assert.Equal(new MicroVmSize(512, 1, 2048), status.Size);
        await FakeNode.UntilAsync(() => !node.MachineOf(unclaimed.Id).IsRunning);
        Assert.Equal(0, node.Pool.WarmCount);
        Assert.True(node.MachineOf(sandbox.Id).IsRunning);
    }

    [Fact]
    public async Task The_record_of_an_older_Pandora_has_no_size()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0 });
        var sandbox = (await CreateAsync(node, null)).Sandbox;
        await node.RestartAsync(isKilled: false, () =>
        {
            var path = Directory.GetFiles(node.Options.RunDir, "record.json", SearchOption.AllDirectories).Single();
            var text = File.ReadAllText(path);
            using var record = JsonDocument.Parse(text);
            File.WriteAllText(path, text.Replace($"\"size\":{record.RootElement.GetProperty("size")},", "", StringComparison.Ordinal));
        });
        Assert.Null(node.Sandboxes.Get(sandbox.Id).Status.Size);
    }

    [Fact]
    public async Task Many_sizes_make_few_snapshots()
    {
        await using var node = new FakeNode(
            new EngineOptions { PoolSize = 0, MaxSandboxes = 99, BootParallelism = 2 }, hasAgents: true, canSnapshot: true);
        for (var i = 0; i < 12; i++)
        {
            await CreateAsync(node, new WantedSize(MemoryMib: 300 + i));
            await FakeNode.UntilAsync(() => SizesOf(node).Contains($"default@{300 + i}m-1c-2048d"));
            Assert.InRange(SizesOf(node).Count, 1, SnapshotSource.MostSizesOfTemplate);
            node.Time.Advance(TimeSpan.FromMilliseconds(10));
        }
    }

    private static Task<CreatedSandbox> CreateAsync(FakeNode node, WantedSize? size, string? template = null) =>
        node.Sandboxes.CreateAsync(new SandboxRequest(Template: template, Size: size), default);

    private static IReadOnlyList<string> SizesOf(FakeNode node) => new SnapshotStore(node.Options.SnapshotDir).ListSizes();
}
