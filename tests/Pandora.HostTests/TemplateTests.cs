using System.Diagnostics;
using Pandora.Proof.World;
using Pandora.Vmm.Linux;

namespace Pandora.HostTests;

/// <summary>Templates built for real, and used.</summary>
public sealed class TemplateTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-host-").FullName;

    private string Templates => Path.Combine(_directory, "templates");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task An_interrupted_build_leaves_nothing_and_does_not_count()
    {
        using var build = Start("template", "build", "default");
        for (string? line; (line = await build.StandardError.ReadLineAsync()) is not null && !line.Contains("root filesystem", StringComparison.Ordinal);)
        {
            // Until the longest step has begun.
        }

        await Task.Delay(TimeSpan.FromSeconds(4), TimeProvider.System);
        using (var handle = ProcessHandle.TryOpen(build.Id))
        {
            handle!.Kill(2); // SIGINT
        }

        var words = await build.StandardError.ReadToEndAsync();
        await build.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Equal(130, build.ExitCode);
        Assert.Contains("interrupted", words);
        Assert.Empty(Directory.GetFileSystemEntries(Templates));
        Assert.DoesNotContain(_directory, await File.ReadAllTextAsync("/proc/mounts"));
        Assert.DoesNotContain(Directory.GetDirectories("/proc").Where(d => int.TryParse(Path.GetFileName(d), out _)), d => CommandLine(d).Contains(_directory, StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_root_image_of_ones_own_and_a_template_with_more_packages_both_run()
    {
        Assert.SkipWhen(TestVmm.NeedsOwnKernel, "these templates have the distribution's kernel, which does not run on this host's KVM");
        var image = Path.Combine(Repository.Templates, "default", "rootfs.ext4");
        await BuildAsync("mine", "--rootfs", image, "--memory", "192");
        var setup = Path.Combine(_directory, "set it up.sh");
        await File.WriteAllTextAsync(setup, "echo prepared > /etc/prepared\n");
        await BuildAsync("more", "--packages", "jq", "--setup", setup);
        Assert.Contains("up to date", await BuildAsync("more", "--packages", "jq", "--setup", setup));

        await using var world = await TestWorld.CreateAsync();
        await using var server = await ServerProcess.StartAsync(world, new()
        {
            ["PANDORA_TEMPLATE_DIR"] = Merge(), ["PANDORA_POOL_SIZE"] = "0", ["PANDORA_POOL_SIZES"] = "more=1",
        });
        await using (var mine = await server.Pandora.CreateAsync(template: "mine"))
        {
            Assert.Equal("mine", mine.Created.Template);
            Assert.InRange(int.Parse((await mine.ExecAsync("awk '/MemTotal/ {print $2}' /proc/meminfo")).Stdout), 120_000, 192 * 1024);
        }

        await using var more = await server.Pandora.CreateAsync(template: "more");
        Assert.Equal("prepared\n1\n", (await more.ExecAsync("cat /etc/prepared; echo '{\"a\": 1}' | jq .a")).Stdout);
    }

    [Fact]
    public async Task What_is_no_root_image_is_refused_by_name()
    {
        var image = Path.Combine(_directory, "empty.ext4");
        await Command.RunAsync("mke2fs", ["-q", "-t", "ext4", image, "16M"]);
        using var build = Start("template", "build", "mine", "--rootfs", image);
        var words = await build.StandardError.ReadToEndAsync();
        await build.WaitForExitAsync();
        Assert.Equal(1, build.ExitCode);
        Assert.Contains("bash", words);
        Assert.Empty(Directory.GetFileSystemEntries(Templates));
    }

    // The templates that these tests made, and the default one beside them.
    private string Merge()
    {
        Directory.CreateSymbolicLink(Path.Combine(Templates, "default"), Path.Combine(Repository.Templates, "default"));
        return Templates;
    }

    private async Task<string> BuildAsync(params string[] arguments)
    {
        using var build = Start(["template", "build", .. arguments]);
        var words = await build.StandardError.ReadToEndAsync();
        await build.WaitForExitAsync();
        Assert.True(build.ExitCode == 0, words);
        return words;
    }

    private Process Start(params string[] arguments)
    {
        var start = new ProcessStartInfo(Path.Combine(Repository.Root, "artifacts/bin/Pandora.Server/release/pandora-server"), arguments) { RedirectStandardError = true };
        start.Environment["PANDORA_DATA_DIR"] = _directory;
        start.Environment["PANDORA_AGENT"] = Repository.Agent;
        start.Environment.Remove("PANDORA_TEST_TEMPLATES");
        return Process.Start(start)!;
    }

    private static string CommandLine(string processDirectory)
    {
        try
        {
            return File.ReadAllText($"{processDirectory}/cmdline");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}
