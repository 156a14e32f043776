using System.Text.Json;
using Pandora.Engine;
using Pandora.Engine.Templates;
using Pandora.Fakes;

namespace Pandora.Tests.Templates;

/// <summary>When an existing template is built again, and which build may run. None of these builds uses the network.</summary>
public sealed class TemplateRebuildTests : IDisposable
{
    private static readonly TemplateSpec Default = new() { Name = "default", AgentPath = "/etc/hostname" };

    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly List<string> _lines = [];
    private readonly TemplateStore _store;

    public TemplateRebuildTests() => _store = new TemplateStore(_directory);

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void The_options_of_a_template_are_recorded_as_an_operator_types_them()
    {
        Assert.Empty(TemplateOrigin.OptionsOf(Default));
        var spec = Default with
        {
            Packages = ["jq", "vim"],
            SetupScriptPath = "/a/set it up.sh",
            KernelPath = "/a/../b/vmlinux",
            ModulesPath = "/m",
            KernelArguments = "quiet x=1",
            VcpuCount = 2,
            MemoryMiB = 512,
            DiskMiB = 4096,
            MaxMemoryMib = 1024,
            MaxVcpus = 4,
            MaxDiskMib = 8192,
        };
        Install("default", t => t with { BuiltWith = TemplateOrigin.OptionsOf(spec) });
        var read = _store.Find("default")!;
        Assert.Equal(
            "./pandora template build default --packages jq,vim --setup '/a/set it up.sh' --kernel /b/vmlinux --modules /m "
                + "--kernel-args 'quiet x=1' --vcpus 2 --memory 512 --disk 4096 --max-memory 1024 --max-vcpus 4 --max-disk 8192",
            TemplateOrigin.CommandFor(read));
    }

    [Fact]
    public async Task A_template_with_an_operators_options_is_kept_and_a_line_says_so()
    {
        Install("default", t => t with { BuiltWith = ["--kernel", "/b/vmlinux"] });
        var before = Snapshot();
        var kept = await Builder().BuildAsync(Default, RebuildRule.IfChangedAndNotOwn, TestContext.Current.CancellationToken);
        Assert.Equal("old", kept.Key);
        Assert.Contains("kept as it was built, with --kernel /b/vmlinux", _lines[0]);
        Assert.Contains("./pandora template build default --kernel /b/vmlinux --force", _lines[1]);
        Assert.Equal(before, Snapshot());
    }

    [Fact]
    public async Task An_operators_template_with_a_missing_file_is_not_replaced()
    {
        Install("default", t => t with { BuiltWith = ["--memory", "512"] });
        File.Delete(Path.Combine(_directory, "default", "initrd"));
        var before = Snapshot();
        var exception = await Assert.ThrowsAsync<StartupException>(() => Builder()
            .BuildAsync(Default, RebuildRule.IfChangedAndNotOwn, TestContext.Current.CancellationToken));
        Assert.Contains("template build default --memory 512 --force", exception.Message);
        Assert.Equal(before, Snapshot());
    }

    [Fact]
    public async Task A_template_with_a_damaged_description_may_be_an_operators_and_is_not_replaced()
    {
        Install("default", t => t with { BuiltWith = ["--memory", "512"] });
        File.WriteAllText(Path.Combine(_directory, "default", "template.json"), "{");
        var before = Snapshot();
        var exception = await Assert.ThrowsAsync<StartupException>(() => Builder()
            .BuildAsync(Default, RebuildRule.IfChangedAndNotOwn, TestContext.Current.CancellationToken));
        Assert.Contains("template.json is damaged", exception.Message);
        Assert.Contains("./pandora template build default --force", exception.Message);
        Assert.Equal(before, Snapshot());
    }

    [Theory]
    [InlineData("070701", "base packages", 256, 2048, "--kernel FILE")]
    [InlineData("LZ4", "base packages and jq, vim", 256, 2048, "--packages jq,vim")]
    [InlineData("LZ4", "root filesystem mine.ext4", 256, 2048, "--rootfs FILE")]
    [InlineData("LZ4", "base packages", 512, 2048, "--memory 512")]
    [InlineData("LZ4", "base packages", 256, 4096, "--disk 4096")]
    [InlineData("LZ4", "base packages", 256, 2048, "")]
    public void The_options_of_an_older_template_are_inferred_from_its_files(
        string initrd, string description, int memory, int disk, string options)
    {
        Install("default", t => t with { Description = description, MemoryMiB = memory });
        var path = Path.Combine(_directory, "default");
        Assert.DoesNotContain("built_with", File.ReadAllText(Path.Combine(path, "template.json")));
        File.WriteAllText(Path.Combine(path, "initrd"), initrd + " and more");
        using (var file = File.OpenWrite(Path.Combine(path, "disk.ext4")))
        {
            file.SetLength(disk * 1024L * 1024);
        }

        Assert.Equal(options, string.Join(' ', TemplateOrigin.OptionsOf(_store.Find("default")!)));
    }

    [Fact]
    public async Task An_up_to_date_template_is_used_without_a_lock_or_a_write()
    {
        Install("default", t => t with { BuiltWith = [] });
        var path = Path.Combine(_directory, "default", "template.json");
        var key = await TemplateBuilder.KeyOfAsync(Default, TestContext.Current.CancellationToken);
        File.WriteAllText(path, File.ReadAllText(path).Replace("\"old\"", JsonSerializer.Serialize(key), StringComparison.Ordinal));
        Directory.CreateDirectory(Path.Combine(_directory, ".build-other-x"));
        using var builder = await LockAsync();
        var before = Snapshot();
        foreach (var rule in new[] { RebuildRule.IfChanged, RebuildRule.IfChangedAndNotOwn })
        {
            Assert.Equal(key, (await Builder().BuildAsync(Default, rule, TestContext.Current.CancellationToken)).Key);
        }

        Assert.Equal(before, Snapshot());
        Assert.All(_lines, l => Assert.Contains("up to date", l));
    }

    [Fact]
    public async Task A_second_builder_names_the_first_and_uses_its_template()
    {
        var first = await LockAsync();
        // A reader does not wait for the lock.
        Assert.Empty(_store.List());
        var second = Builder().BuildAsync(Default with { MemoryMiB = 300 }, RebuildRule.IfChanged, TestContext.Current.CancellationToken);
        await FakeNode.UntilAsync(() => _lines.Count > 0);
        Assert.Contains(
            $"process {Environment.ProcessId} on {Environment.MachineName} builds template 'default' in {_directory}: waiting for it",
            _lines[0]);
        var key = await TemplateBuilder.KeyOfAsync(Default with { MemoryMiB = 300 }, TestContext.Current.CancellationToken);
        Install("default", t => t with { Key = key, BuiltWith = ["--memory", "300"] });
        Assert.False(second.IsCompleted);
        first.Dispose();
        await FakeNode.UntilAsync(() => second.IsCompleted);
        Assert.Equal(key, (await second).Key);
        Assert.Single(_lines, l => l.Contains("waiting", StringComparison.Ordinal));
        Assert.Equal(["default"], Directory.GetFileSystemEntries(_directory).Select(Path.GetFileName));
    }

    [Fact]
    public async Task A_template_that_a_killed_build_had_moved_aside_is_put_back_by_the_next_build()
    {
        Install("my-web", t => t with { BuiltWith = ["--memory", "512"] });
        Install("other", t => t with { BuiltWith = [] });
        Directory.Move(Path.Combine(_directory, "my-web"), Path.Combine(_directory, ".old-my-web-abcdefgh.ijk"));
        Directory.CreateDirectory(Path.Combine(_directory, ".old-other-abcdefgh.ijk"));
        Directory.CreateDirectory(Path.Combine(_directory, ".build-my-web-x", "result"));
        var kept = await Builder().BuildAsync(
            Default with { Name = "my-web" }, RebuildRule.IfChangedAndNotOwn, TestContext.Current.CancellationToken);
        Assert.Equal(["--memory", "512"], kept.BuiltWith);
        Assert.Equal(["my-web", "other"], Directory.GetFileSystemEntries(_directory).Select(Path.GetFileName).Order());
    }

    [Fact]
    public async Task A_removal_waits_for_a_build()
    {
        Install("default", t => t);
        Directory.CreateDirectory(Path.Combine(_directory, ".old-default-abcdefgh.ijk"));
        var builder = await LockAsync();
        var removing = _store.RemoveAsync("default", TimeProvider.System, Report, TestContext.Current.CancellationToken);
        await FakeNode.UntilAsync(() => _lines.Count > 0);
        Assert.Contains("builds template 'default'", _lines[0]);
        Assert.True(Directory.Exists(Path.Combine(_directory, "default")));
        builder.Dispose();
        Assert.True(await removing);
        // No directory remains that the next build would put back.
        Assert.Empty(Directory.GetFileSystemEntries(_directory));
        Assert.False(await _store.RemoveAsync("default", TimeProvider.System, Report, TestContext.Current.CancellationToken));
        Assert.False(await new TemplateStore(Path.Combine(_directory, "none"))
            .RemoveAsync("default", TimeProvider.System, Report, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task A_waiting_build_can_be_cancelled()
    {
        using var first = await LockAsync();
        using var stop = new CancellationTokenSource();
        var second = Builder().BuildAsync(Default, RebuildRule.IfChanged, stop.Token);
        await FakeNode.UntilAsync(() => _lines.Count > 0);
        await stop.CancelAsync();
        await FakeNode.UntilAsync(() => second.IsCompleted);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second);
    }

    [Fact]
    public void A_failed_installation_reports_the_error_of_apt()
    {
        Assert.Equal(
            ["Unable to locate package nosuchpackage", "Unable to locate package alsonot"],
            AptErrors.Find([
                "I: installing remaining packages inside the chroot...", "Reading package lists...",
                "E: Unable to locate package nosuchpackage", "E: Unable to locate package alsonot",
                "E: setup failed: E: apt-get -o Dir::Bin::dpkg=env --yes install bash nosuchpackage alsonot failed",
                "I: main() received signal PIPE: waiting for setup...", "E: mmdebstrap failed to run",
            ]));
        Assert.Equal(
            ["a : Depends: b (>= 2) but it is not going to be installed", "Unable to correct problems, you have held broken packages."],
            AptErrors.Find([
                "The following packages have unmet dependencies:",
                "   a : Depends: b (>= 2) but it is not going to be installed",
                "E: Unable to correct problems, you have held broken packages.",
            ]));
        Assert.Equal(
            [
                "dpkg: error processing package a (--configure)",
                "installed a package post-installation script subprocess returned error exit status 1",
            ],
            AptErrors.Find([
                "dpkg: error processing package a (--configure):",
                " installed a package post-installation script subprocess returned error exit status 1",
                "E: Sub-process env returned an error code (1)",
            ]));
        Assert.Empty(AptErrors.Find(["I: x", "E: mmdebstrap failed to run"]));
    }

    private TemplateBuilder Builder() => new(_store, TimeProvider.System, Report);

    private void Report(string line)
    {
        lock (_lines)
        {
            _lines.Add(line);
        }
    }

    private Task<TemplateLock> LockAsync() => TemplateLock.AcquireAsync(
        _directory, "builds template 'default'", TimeProvider.System, _ => { }, TestContext.Current.CancellationToken);

    private List<string> Snapshot() =>
        [.. Directory.GetFileSystemEntries(_directory, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal)
            .Select(p => $"{p} {File.GetLastWriteTimeUtc(p).Ticks} {Directory.GetLastWriteTimeUtc(p).Ticks}")];

    private void Install(string name, Func<Template, Template> change)
    {
        var built = Directory.CreateDirectory(Path.Combine(_directory, $".build-{name}-x"));
        var template = change(new Template(name, "old", default, 1, 256, "base packages") { Directory = built.FullName });
        foreach (var file in template.Files)
        {
            File.WriteAllText(file, "");
        }

        _store.Install(template, built.FullName);
    }
}
