using Microsoft.Extensions.Time.Testing;
using Pandora.Engine;
using Pandora.Engine.Admission;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Templates;
using Pandora.Vmm;

namespace Pandora.Tests.Templates;

/// <summary>A template in other sizes than its own.</summary>
public sealed class TemplateSizeTests
{
    private static readonly Template Web = new("web", "key", default, 1, 256, "a test's") { DiskMib = 2048 };

    [Theory]
    [InlineData(null, null, null, "web")]
    [InlineData(256, 1, 2048, "web")]
    [InlineData(512, null, null, "web@512m-1c-2048d")]
    [InlineData(null, 2, null, "web@256m-2c-2048d")]
    [InlineData(128, 32, 4096, "web@128m-32c-4096d")]
    public void A_size_has_a_name_of_its_own_unless_it_is_the_templates(int? memory, int? vcpus, int? disk, string name)
    {
        var variant = Web.In(Web.Resolve(new WantedSize(memory, vcpus, disk)));
        Assert.Equal((name, name != "web"), (variant.Variant, variant.IsVariant));
        Assert.Equal(("web", "web", name != "web"), (variant.Name, Template.NameOf(name), Template.IsVariantName(name)));
        Assert.Equal(new MicroVmSize(memory ?? 256, vcpus ?? 1, disk ?? 2048), variant.Size);
        Assert.Equal(disk == 4096, variant.HasOtherDisk);
        Assert.False(TemplateStore.IsName("web@512m-1c-2048d"));
    }

    [Theory]
    [InlineData(127, null, null, "memory_mib", "must be from 128 to 1024 with template 'web', and is 127")]
    [InlineData(1025, null, null, "memory_mib", "must be from 128 to 1024")]
    [InlineData(null, 0, null, "vcpus", "must be from 1 to 2")]
    [InlineData(null, 3, null, "vcpus", "must be from 1 to 2")]
    [InlineData(null, null, 2047, "disk_mib", "must be from 2048 to 4096")]
    [InlineData(null, null, 4097, "disk_mib", "must be from 2048 to 4096")]
    public void A_size_outside_of_the_templates_bounds_is_refused_by_field(int? memory, int? vcpus, int? disk, string field, string words)
    {
        var bounded = Web with { MaxMemoryMib = 1024, MaxVcpus = 2, MaxDiskMib = 4096 };
        var refused = Assert.Throws<PandoraException>(() => bounded.Resolve(new WantedSize(memory, vcpus, disk)));
        Assert.Equal((PandoraError.InvalidRequest, field), (refused.Error, refused.Field));
        Assert.StartsWith(words, refused.Message);
    }

    [Fact]
    public void A_template_without_bounds_has_those_of_the_api()
    {
        Assert.Equal(new MicroVmSize(65536, 32, 1024 * 1024), Web.Resolve(new WantedSize(65536, 32, 1024 * 1024)));
        foreach (var wanted in new WantedSize[] { new(MemoryMib: 65537), new(Vcpus: 33), new(DiskMib: (1024 * 1024) + 1) })
        {
            Assert.Throws<PandoraException>(() => Web.Resolve(wanted));
        }
    }

    [Fact]
    public void The_key_of_a_snapshot_depends_on_each_part_of_the_size_and_a_templates_own_is_what_it_was()
    {
        static string KeyOf(Template template) =>
            SnapshotKeys.Create(template, "fake", new DeviceLimits(0, 0, 0), "key", 1400, ExecWay.Agent);
        MicroVmSize[] sizes = [Web.Size, new(512, 1, 2048), new(256, 2, 2048), new(256, 1, 4096), new(512, 2, 4096)];
        Assert.Equal(sizes.Length, sizes.Select(s => KeyOf(Web.In(s))).Distinct().Count());
        Assert.Equal(KeyOf(Web), KeyOf(Web with { DiskMib = 0 }));
    }

    [Fact]
    public async Task Bounds_are_stored_and_are_part_of_the_templates_key()
    {
        var spec = new TemplateSpec { Name = "web", AgentPath = "/etc/hostname" };
        var token = TestContext.Current.CancellationToken;
        var plain = await TemplateBuilder.KeyOfAsync(spec, token);
        Assert.NotEqual(plain, await TemplateBuilder.KeyOfAsync(spec with { MaxVcpus = 2 }, token));
        Assert.NotEqual(
            await TemplateBuilder.KeyOfAsync(spec with { MaxMemoryMib = 512 }, token),
            await TemplateBuilder.KeyOfAsync(spec with { MaxDiskMib = 512 }, token));

        var directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
        try
        {
            var store = new TemplateStore(directory);
            var built = Directory.CreateDirectory(Path.Combine(directory, ".build-web")).FullName;
            var template = Web with { Directory = built, MaxMemoryMib = 1024, MaxVcpus = 2, MaxDiskMib = 4096 };
            template.Files.ToList().ForEach(f => File.WriteAllText(f, ""));
            using (var disk = File.OpenHandle(template.DiskPath, FileMode.Open, FileAccess.Write))
            {
                RandomAccess.SetLength(disk, 3L * 1024 * 1024 * 1024);
            }

            store.Install(template, built);
            Assert.Contains(
                "\"max_memory_mib\":1024,\"max_vcpus\":2,\"max_disk_mib\":4096",
                await File.ReadAllTextAsync(Path.Combine(directory, "web/template.json"), token));
            var read = store.Find("web")!;
            Assert.Equal((1024, 2, 4096), (read.MaxMemoryMib, read.MaxVcpus, read.MaxDiskMib));
            // The size of the disk is that of the file, also in a template of an older Pandora.
            Assert.Equal(new MicroVmSize(256, 1, 3072), read.Size);
            var builder = new TemplateBuilder(store, new FakeTimeProvider(), _ => { });
            var refused = await Assert.ThrowsAsync<StartupException>(
                () => builder.BuildAsync(spec with { MaxDiskMib = 1024 }, RebuildRule.IfChanged, token));
            Assert.Contains("--max-disk (1024) is below --disk (2048)", refused.Message);
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }
}
