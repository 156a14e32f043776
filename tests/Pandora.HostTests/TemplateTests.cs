using Pandora.Client;
using System.Diagnostics;
using System.Text;
using System.Text.RegularExpressions;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests;

/// <summary>Templates, built from packages and images, and used by a real server.</summary>
public sealed class TemplateTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-host-").FullName;

    // For builds whose guests are never started. Without this option each build downloads the distribution's kernel.
    private static readonly string[] Kernel = ["--kernel", Path.Combine(Repository.Templates, "default", "vmlinux")];

    private string? _data;

    private string Data => _data ?? _directory;

    private string Templates => Path.Combine(Data, "templates");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task An_interrupted_build_leaves_no_template_mount_or_process()
    {
        using var build = Start(["template", "build", "default", .. Kernel]);
        for (
            string? line;
            (line = await build.StandardError.ReadLineAsync()) is not null && !line.Contains("root filesystem", StringComparison.Ordinal);)
        {
            // Read until the longest step has begun.
        }

        await Task.Delay(TimeSpan.FromSeconds(4), TimeProvider.System);
        using (var handle = ProcessHandle.TryOpen(build.Id))
        {
            handle!.Kill(2); // SIGINT
        }

        var words = await build.StandardError.ReadToEndAsync();
        await build.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(120));
        Assert.Equal(130, build.ExitCode);
        Assert.Contains("interrupted", words);
        Assert.Empty(Directory.GetFileSystemEntries(Templates));
        Assert.DoesNotContain(_directory, await File.ReadAllTextAsync("/proc/mounts"));
        // A process that was killed may be seen for a moment.
        await ProcessTests.UntilAsync(() => Task.FromResult(!Directory
            .GetDirectories("/proc")
            .Any(d => int.TryParse(Path.GetFileName(d), out _) && CommandLine(d).Contains(_directory, StringComparison.Ordinal))));
    }

    [Fact]
    public async Task A_given_root_image_and_a_template_with_more_packages_both_run()
    {
        Assert.SkipWhen(TestVmm.NeedsOwnKernel, "these templates contain the distribution's kernel, which does not run on this host's KVM");
        var image = Path.Combine(Repository.Templates, "default", "rootfs.ext4");
        var setup = Path.Combine(_directory, "set it up.sh");
        await File.WriteAllTextAsync(setup, "echo prepared > /etc/prepared\n");
        // Both builds run at once, each with its own data directory.
        var building = BuildAsync("more", "--packages", "jq", "--setup", setup);
        await Task.WhenAll(building, In("second", () => BuildAsync("mine", "--rootfs", image, "--memory", "192")));
        Directory.CreateSymbolicLink(Path.Combine(Templates, "mine"), Path.Combine(_directory, "second/templates/mine"));
        Assert.Contains("up to date", await BuildAsync("more", "--packages", "jq", "--setup", setup));
        // cmp fails if the builder has changed the image in any byte.
        await Command.RunAsync("cmp", [image, Path.Combine(Templates, "mine", "rootfs.ext4")]);

        await using var world = await TestWorld.CreateAsync();
        await using var server = await ServerProcess.StartAsync(world, new()
        {
            ["PANDORA_TEMPLATE_DIR"] = Merge(),
            ["PANDORA_POOL_SIZE"] = "0",
            ["PANDORA_POOL_SIZES"] = "more=1",
        });
        await using (var mine = await server.Pandora.CreateAsync(new CreateSandboxOptions { Template = "mine" }))
        {
            Assert.Equal("mine", mine.Wire!.Template);
            Assert.InRange(int.Parse((await mine.ExecAsync("awk '/MemTotal/ {print $2}' /proc/meminfo")).Stdout), 120_000, 192 * 1024);
        }

        await using var more = await server.Pandora.CreateAsync(new CreateSandboxOptions { Template = "more" });
        Assert.Equal("prepared\n1\n", (await more.ExecAsync("cat /etc/prepared; echo '{\"a\": 1}' | jq .a")).Stdout);
    }

    [Fact]
    public async Task A_default_template_that_the_operator_built_is_kept_by_keep_own()
    {
        var image = Path.Combine(Repository.Templates, "default", "rootfs.ext4");
        var kernel = Path.Combine(Repository.Templates, "default", "vmlinux");
        await BuildAsync("default", "--rootfs", image, "--kernel", kernel);
        var before = await File.ReadAllTextAsync(Path.Combine(Templates, "default", "template.json"));
        Assert.Contains("\"built_with\":", before);
        var words = await BuildAsync("default", "--keep-own");
        Assert.Contains($"kept as it was built, with --rootfs {image} --kernel {kernel}", words);
        Assert.Contains($"./pandora template build default --rootfs {image} --kernel {kernel} --force", words);
        Assert.Equal(before, await File.ReadAllTextAsync(Path.Combine(Templates, "default", "template.json")));
        // A template of a version that did not record its options is kept too.
        await File.WriteAllTextAsync(Path.Combine(Templates, "default", "template.json"),
            Regex.Replace(before, "\"built_with\":\\[[^]]*\\],?", "").Replace(",}", "}", StringComparison.Ordinal));
        Assert.Contains("kept as it was built, with --rootfs FILE --kernel FILE", await BuildAsync("default", "--keep-own"));
    }

    [Fact]
    public async Task Two_builds_at_once_in_one_directory_build_the_template_once()
    {
        string[] arguments = ["template", "build", "mine", "--rootfs", Path.Combine(Repository.Templates, "default", "rootfs.ext4"),
            "--kernel", Path.Combine(Repository.Templates, "default", "vmlinux")];
        using var first = Start(arguments);
        using var second = Start(arguments);
        var words = await Task.WhenAll(first.StandardError.ReadToEndAsync(), second.StandardError.ReadToEndAsync());
        await Task.WhenAll(first.WaitForExitAsync(), second.WaitForExitAsync());
        Assert.True((first.ExitCode, second.ExitCode) == (0, 0), string.Concat(words));
        Assert.Single(words, w => w.Contains("built in", StringComparison.Ordinal));
        Assert.Contains("up to date", Assert.Single(words, w => w.Contains("waiting for it", StringComparison.Ordinal)));
        Assert.Equal(["mine"], Directory.GetFileSystemEntries(Templates).Select(Path.GetFileName));
    }

    [Fact]
    public async Task A_package_that_does_not_exist_is_named_with_apts_message()
    {
        var words = await FailAsync(["template", "build", "more", "--packages", "jq,nosuchpackage", .. Kernel]);
        Assert.Contains("apt says: Unable to locate package nosuchpackage", words);
        Assert.DoesNotContain("exit code", words);
        Assert.Empty(Directory.GetFileSystemEntries(Templates));
    }

    // The program must not contain the paths of the checkout or its packages, because its hash is a part of each template's key.
    [Fact]
    public async Task Two_checkouts_build_the_same_agent()
    {
        var programs = new List<byte[]>();
        foreach (var name in new[] { "a", "b/longer name" })
        {
            var checkout = Directory.CreateDirectory(Path.Combine(_directory, name)).FullName;
            const string Copy = "cp Directory.* global.json BannedSymbols.txt .editorconfig \"$2\"; mkdir \"$2/src\"; "
                + "cp -r src/Pandora.Agent src/Pandora.Agent.Protocol \"$2/src\"";
            await Command.RunAsync("sh", ["-ec", $"cd \"$1\"; {Copy}", "copy", Repository.Root, checkout]);
            // No compiler server or build node may outlive the command.
            await Command.RunAsync("dotnet",
            [
                "publish", Path.Combine(checkout, "src/Pandora.Agent"), "-c", "Release", "-v", "q", "--nologo", "--disable-build-servers",
                "--artifacts-path", Path.Combine(checkout, "artifacts"), "-o", Path.Combine(checkout, "out"),
            ]);
            programs.Add(await File.ReadAllBytesAsync(Path.Combine(checkout, "out", "pandora-agent")));
        }

        Assert.True(programs[0].AsSpan().SequenceEqual(programs[1]), "the two programs differ");
        Assert.True(programs[0].AsSpan()
            .IndexOf(Encoding.UTF8.GetBytes(_directory)) < 0, "the program names the directory that it was built in");
    }

    [Fact]
    public async Task An_image_without_bash_is_refused_and_the_missing_file_is_named()
    {
        var image = Path.Combine(_directory, "empty.ext4");
        await Command.RunAsync("mke2fs", ["-q", "-t", "ext4", image, "16M"]);
        using var build = Start(["template", "build", "mine", "--rootfs", image, .. Kernel]);
        var words = await build.StandardError.ReadToEndAsync();
        await build.WaitForExitAsync();
        Assert.Equal(1, build.ExitCode);
        Assert.Contains("bash", words);
        Assert.Empty(Directory.GetFileSystemEntries(Templates));
    }

    [Fact]
    public async Task Links_that_a_set_up_script_leaves_do_not_reach_the_host()
    {
        var (host, before) = await PrepareHostAsync();
        var script = $"""
            host={host}
            [ ! -e "$host" ] || exit 9
            for file in etc/hosts etc/resolv.conf etc/machine-id etc/apt/sources.list etc/apt/apt.conf.d/90pandora; do
                ln -sf "$host/file" "/$file"
            done
            # The builder must neither wait for a FIFO nor write to it.
            mkfifo /etc/sudoers.d/pandora
            sleep 1000 &
            for directory in tmp var/log var/cache/apt var/lib/apt/lists etc/apt/sources.list.d/below; do
                rm -rf "/$directory"
                ln -s "$host/directory" "/$directory"
            done

            """;
        var (setup, wrong) = (Path.Combine(_directory, "links.sh"), Path.Combine(_directory, "wrong.sh"));
        await File.WriteAllTextAsync(setup, script);
        // A link out of the tree in place of a required directory is an error, and the old template stays.
        await File.WriteAllTextAsync(wrong, script + """
            for directory in etc/sudoers.d etc/apt/apt.conf.d usr/lib/pandora; do
                rm -rf "/$directory"
                ln -s "$host/directory" "/$directory"
            done
            """);
        var old = await MakeImageAsync("old", "mkdir -p usr/lib");
        await In("second", () => BuildAsync(["links", "--rootfs", old, .. Kernel]));
        var description = Path.Combine(_directory, "second/templates/links/template.json");
        var kept = await File.ReadAllTextAsync(description);

        // Both builds run at once, because each installs packages for half a minute.
        var building = BuildAsync(["links", "--setup", setup, .. Kernel]);
        var failing = In("second", () => FailAsync(["template", "build", "links", "--setup", wrong, .. Kernel]));
        await Task.WhenAll(building, failing);
        Assert.Equal(before, await ReadAllAsync(host));
        var image = Path.Combine(Templates, "links", "rootfs.ext4");
        Assert.Equal("127.0.0.1 localhost\n::1 localhost\n", await DebugAsync(image, "cat /etc/hosts"));
        Assert.Contains("NOPASSWD", await DebugAsync(image, "cat /etc/sudoers.d/pandora"));
        Assert.Contains("Type: directory", await DebugAsync(image, "stat /usr/lib/pandora"));
        Assert.Contains("/etc/apt/apt.conf.d", await failing);
        Assert.Equal(kept, await File.ReadAllTextAsync(description));
        Assert.Equal(["links"], Directory.GetFileSystemEntries(Path.Combine(_directory, "second/templates")).Select(Path.GetFileName));
    }

    [Fact]
    public async Task Links_in_a_root_image_are_followed_inside_the_image_or_are_an_error()
    {
        var (host, before) = await PrepareHostAsync();
        // A path that debugfs would split into several words.
        _data = Directory.CreateDirectory(Path.Combine(_directory, "it's \"mine\" ")).FullName;
        var inside = await MakeImageAsync("inside", "mkdir -p real usr/lib; ln -s /real run; ln -s real sys");
        var words = await BuildAsync(["inside", "--rootfs", inside, .. Kernel]);
        Assert.DoesNotContain("SSH server", words);
        await Command.RunAsync("cmp", [inside, Path.Combine(Templates, "inside", "rootfs.ext4")]);

        foreach (var (name, commands, message) in new[]
        {
            ("outside", $"ln -s {host} run", "/run is no directory"),
            ("file", "touch proc", "/proc is no directory"),
            ("below", $"ln -s {host} usr/lib", "/usr/lib must be a directory, and no link"),
            // The initrd would mount on the directory that this link has in the initrd.
            ("moved", "mkdir real usr/lib; ln -s /real usr/lib/pandora", "/usr/lib/pandora must be a directory, and no link"),
        })
        {
            var image = await MakeImageAsync(name, commands);
            Assert.Contains(message, await FailAsync(["template", "build", name, "--rootfs", image, .. Kernel]));
        }

        Assert.Equal(["inside"], Directory.GetFileSystemEntries(Templates).Select(Path.GetFileName));
        Assert.Equal(before, await ReadAllAsync(host));
    }

    [Fact]
    public async Task A_root_image_without_an_SSH_server_is_taken_and_what_it_lacks_is_reported()
    {
        var image = await MakeImageAsync("agent", "rm usr/sbin/dropbear");
        Assert.Contains("it has no SSH server", await BuildAsync(["agent", "--rootfs", image, .. Kernel]));
        var template = Path.Combine(Templates, "agent");
        Assert.Contains("\"agent_version\":1", await File.ReadAllTextAsync(Path.Combine(template, "template.json")));
        Assert.Equal(await File.ReadAllBytesAsync(Repository.Agent), await File.ReadAllBytesAsync(Path.Combine(template, "agent")));
    }

    // Creates the host's files that links in a tree point to, at a path that does not exist in the tree.
    private async Task<(string Path, IReadOnlyDictionary<string, string> Content)> PrepareHostAsync()
    {
        var host = Path.Combine(_directory, "host");
        Directory.CreateDirectory(Path.Combine(host, "directory", "pandora"));
        foreach (var name in new[] { "file", "directory/file", "directory/dpkg.log", "directory/pandora/init" })
        {
            await File.WriteAllTextAsync(Path.Combine(host, name), "the host's");
        }

        return (host, await ReadAllAsync(host));
    }

    private static async Task<IReadOnlyDictionary<string, string>> ReadAllAsync(string directory)
    {
        var all = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (var path in Directory.GetFileSystemEntries(directory, "*", SearchOption.AllDirectories))
        {
            all[path] = $"{File.GetUnixFileMode(path)} {(Directory.Exists(path) ? "" : await File.ReadAllTextAsync(path))}";
        }

        return all;
    }

    // Makes an image with just the files that the builder requires of a root filesystem.
    private async Task<string> MakeImageAsync(string name, string commands)
    {
        var tree = Path.Combine(_directory, $"{name}-tree");
        await Command.RunAsync(
            "sh",
            [
                "-ec",
                $"mkdir -p \"$1/bin\" \"$1/usr/sbin\" \"$1/etc\"; cd \"$1\"; touch bin/bash usr/sbin/dropbear; {commands}",
                "make",
                tree,
            ]);
        var image = Path.Combine(_directory, $"{name}.ext4");
        await Command.RunAsync("mke2fs", ["-q", "-t", "ext4", "-d", tree, image, "32M"]);
        return image;
    }

    private static Task<string> DebugAsync(string image, string request) => Command.RunAsync("debugfs", ["-R", request, image]);

    private async Task<string> FailAsync(params string[] arguments)
    {
        using var build = Start(arguments);
        var words = await build.StandardError.ReadToEndAsync();
        await build.WaitForExitAsync();
        Assert.True(build.ExitCode == 1, words);
        return words;
    }

    // Runs a function with another data directory, named by the first argument.
    private T In<T>(string name, Func<T> start)
    {
        var data = _data;
        _data = Directory.CreateDirectory(Path.Combine(_directory, name)).FullName;
        try
        {
            return start();
        }
        finally
        {
            _data = data;
        }
    }

    // Adds a link to the default template beside the templates that the test built; the directory of templates.
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
        var start = new ProcessStartInfo(Path.Combine(Repository.Root, "artifacts/bin/Pandora.Server/release/pandora-server"), arguments)
        {
            RedirectStandardError = true,
        };
        start.Environment["PANDORA_DATA_DIR"] = Data;
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
