using System.Text;
using Microsoft.Extensions.Time.Testing;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Templates;

namespace Pandora.Tests.Templates;

public sealed class TemplateTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void A_cpio_archive_has_the_format_of_cpio()
    {
        using var stream = new MemoryStream();
        var cpio = new CpioArchive(stream);
        cpio.AddFile("a", "hello"u8, 0x180);
        cpio.Finish();
        var text = Encoding.ASCII.GetString(stream.ToArray());
        Assert.StartsWith("070701" + "00000001" + "00008180" + "00000000" + "00000000" + "00000001" + "00000000" + "00000005", text);
        Assert.Equal(0, stream.Length % 4);
        Assert.Equal("hello", text.Substring(112, 5));
        Assert.Contains("TRAILER!!!", text);
    }

    [Fact]
    public void A_template_with_a_missing_file_is_refused_by_name()
    {
        var store = new TemplateStore(_directory);
        Install(store, "web");
        Assert.NotNull(store.Find("web"));
        File.Delete(Path.Combine(_directory, "web", "initrd"));
        var exception = Assert.Throws<StartupException>(() => store.Find("web"));
        Assert.Contains("initrd", exception.Message);
        Assert.Contains("--force", exception.Message);
    }

    [Fact]
    public void A_damaged_description_is_refused_by_name()
    {
        var store = new TemplateStore(_directory);
        Install(store, "web");
        File.WriteAllText(Path.Combine(_directory, "web", "template.json"), "{");
        Assert.Contains("damaged", Assert.Throws<StartupException>(() => store.Find("web")).Message);
    }

    [Fact]
    public void An_unfinished_build_is_no_template()
    {
        Directory.CreateDirectory(Path.Combine(_directory, ".build-web-x", "result"));
        Directory.CreateDirectory(Path.Combine(_directory, "half"));
        var store = new TemplateStore(_directory);
        Assert.Empty(store.List());
        Assert.Null(store.Find("half"));
    }

    [Theory]
    [InlineData("../etc")]
    [InlineData("")]
    [InlineData("Web")]
    [InlineData("-x")]
    [InlineData("a/b")]
    public void A_text_with_other_characters_is_no_template_name(string name)
    {
        Assert.False(TemplateStore.IsName(name));
        Assert.Null(new TemplateStore(_directory).Find(name));
    }

    [Fact]
    public async Task A_build_with_unusable_options_is_refused_before_it_starts()
    {
        var builder = new TemplateBuilder(new TemplateStore(_directory), new FakeTimeProvider(), _ => { });
        var missing = await Assert.ThrowsAsync<StartupException>(() =>
            builder.BuildAsync(
                new TemplateSpec
                {
                    AgentPath = "/etc/hostname",
                    Name = "x",
                    RootPath = "/no/such.ext4",
                    KernelPath = "/no/such",
                },
                RebuildRule.IfChanged,
                default));
        Assert.Contains("/no/such", missing.Message);
        var misnamed = new TemplateSpec { AgentPath = "/etc/hostname", Name = "X" };
        var both = new TemplateSpec { AgentPath = "/etc/hostname", Name = "x", RootPath = "/etc/hostname", Packages = ["vim"] };
        foreach (var spec in new[] { misnamed, both })
        {
            await Assert.ThrowsAsync<StartupException>(() => builder.BuildAsync(spec, RebuildRule.IfChanged, default));
        }

        Assert.Empty(Directory.GetFileSystemEntries(_directory));
    }

    [Fact]
    public void Package_sources_for_guests_are_the_distributions_and_hold_no_credentials()
    {
        const string Targets =
            "https://me:secret@mirror.example/debian/|bookworm|main|/usr/share/keyrings/debian-archive-keyring.gpg|Debian\n"
            + "https://mirror.example/debian|bookworm|main|/usr/share/keyrings/debian-archive-keyring.gpg|Debian\n"
            + "https://other.example/thing|bookworm|stable|/etc/other.gpg|Other\n"
            + "https://mirror.example/debian|trixie|main||Debian\n";
        const string Config =
            "Acquire::http::Proxy \"http://user:pw@proxy.example:3128\";\nAcquire::Check-Valid-Until \"false\";\nDir::Etc::netrc "
                + "\"auth.conf\";\nAPT::Architecture \"amd64\";\n";
        var sources = AptSources.Parse("debian", "bookworm", Targets, Config);
        Assert.Equal(2, sources.BuildLines.Count);
        Assert.Contains("secret", sources.BuildLines[0]);
        Assert.Equal(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://mirror.example/debian bookworm main",
            sources.GuestLines[0]);
        Assert.Equal(3, sources.BuildOptions.Count);
        Assert.Equal(
            ["Acquire::http::Proxy \"http://proxy.example:3128\";", "Acquire::Check-Valid-Until \"false\";"],
            sources.GuestOptions);
        Assert.Contains(
            "apt-get update", Assert.Throws<StartupException>(() => AptSources.Parse("debian", "forky", Targets, Config)).Message);
    }

    [Fact]
    public void A_modules_dependencies_are_read_from_the_module()
    {
        var module = Encoding.ASCII.GetBytes("\u007fELF....\0license=GPL\0depends=virtio_ring,virtio-x\0retpoline=Y\0");
        Assert.Equal(["virtio_ring", "virtio_x"], KernelPackage.ReadDependencies(module));
        Assert.Empty(KernelPackage.ReadDependencies(Encoding.ASCII.GetBytes("\0depends=\0")));
    }

    [Fact]
    public void Host_keys_have_dropbears_format_and_are_never_the_same()
    {
        var first = GuestIdentity.Create("abcdefghij");
        Assert.NotEqual(first.HostKey, GuestIdentity.Create("abcdefghij").HostKey);
        Assert.Equal(4 + 11 + 4 + 32, first.HostKey.Length);
        Assert.Equal(4 + 11 + 4 + 64, first.HostKeyFile.Length);
        Assert.Equal(first.HostKey[^32..], first.HostKeyFile[^32..]);
    }

    [Theory]
    [InlineData(true, "exec=ssh")]
    [InlineData(false, "exec=agent")]
    public async Task A_microVMs_initrd_begins_with_its_names_and_the_way_of_its_commands(bool useSsh, string line)
    {
        var (template, target) = (Path.Combine(_directory, "initrd"), Path.Combine(_directory, "own"));
        await File.WriteAllTextAsync(template, "the template's");
        var identity = GuestIdentity.Create("abcdefghij");
        await identity.WriteInitrdAsync(template, target, "key", 1400, useSsh, TestContext.Current.CancellationToken);
        var written = await File.ReadAllTextAsync(target, Encoding.Latin1);
        Assert.Contains($"hostname={identity.Hostname}\nmtu=1400\n{line}\n", written);
        Assert.Contains($"127.0.0.1 localhost {identity.Hostname}\n::1 localhost\n", written);
        Assert.EndsWith("the template's", written);
    }

    [Fact]
    public void A_template_of_an_older_Pandora_has_agent_version_0_and_needs_no_copy_of_the_agent()
    {
        var store = new TemplateStore(_directory);
        Install(store, "web");
        var description = Path.Combine(_directory, "web", "template.json");
        File.WriteAllText(description, File.ReadAllText(description).Replace(",\"agent_version\":0", "", StringComparison.Ordinal));
        Assert.DoesNotContain("agent", File.ReadAllText(description));
        var read = store.Find("web")!;
        Assert.Equal((0, Path.Combine(_directory, "web", "agent")), (read.AgentVersion, read.AgentPath));
    }

    [Fact]
    public void A_template_stored_with_the_misspelt_size_is_still_read()
    {
        var store = new TemplateStore(_directory);
        Install(store, "web");
        var description = Path.Combine(_directory, "web", "template.json");
        var written = File.ReadAllText(description);
        Assert.Contains("\"memory_mib\":256", written);
        File.WriteAllText(description, written.Replace("memory_mib", "memory_mi_b").Replace("256", "512"));
        var read = store.Find("web")!;
        Assert.Equal((512, "key", 1, "a test's"), (read.MemoryMiB, read.Key, read.VcpuCount, read.Description));
        Assert.Equal(512, Assert.Single(store.List()).MemoryMiB);
    }

    [Theory]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("""{"name":"web","name":"web"}""")]
    public void Json_that_is_no_description_is_reported_as_damaged(string json)
    {
        var store = new TemplateStore(_directory);
        Install(store, "web");
        File.WriteAllText(Path.Combine(_directory, "web", "template.json"), json);
        Assert.Contains("damaged", Assert.Throws<StartupException>(() => store.Find("web")).Message);
    }

    private void Install(TemplateStore store, string name)
    {
        var built = Directory.CreateDirectory(Path.Combine(_directory, $".build-{name}"));
        var template = new Template(name, "key", default, 1, 256, "a test's") { Directory = built.FullName };
        foreach (var file in template.Files)
        {
            File.WriteAllText(file, "");
        }

        store.Install(template, built.FullName);
    }
}
