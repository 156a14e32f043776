using System.Diagnostics;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Pandora.Agent.Protocol.Channel;
using Pandora.Linux;

namespace Pandora.Engine.Templates;

/// <summary>
/// Builds templates: (1) packages, (2) kernel and modules, (3) initrd, (4) images, (5) a rename to the final name. The next build removes
/// the files of an interrupted build.
/// </summary>
public sealed partial class TemplateBuilder(TemplateStore store, TimeProvider time, Action<string> report)
{
    private const string GuestDirectory = "usr/lib/pandora";
    private const UnixFileMode Executable =
        UnixFileMode.UserRead
        | UnixFileMode.UserWrite
        | UnixFileMode.UserExecute
        | UnixFileMode.GroupRead
        | UnixFileMode.GroupExecute
        | UnixFileMode.OtherRead
        | UnixFileMode.OtherExecute;

    /// <summary>
    /// Builds a template, unless one made of the same things exists. Nothing is written to the store unless a template is built.
    /// </summary>
    /// <param name="spec">What the template is made of.</param>
    /// <param name="rule">When an existing template is built again.</param>
    /// <param name="cancellationToken">Stops the build; an unfinished build is removed.</param>
    /// <exception cref="StartupException">Something that the build needs is missing or failed; an old template is not changed.</exception>
    public async Task<Template> BuildAsync(TemplateSpec spec, RebuildRule rule, CancellationToken cancellationToken)
    {
        Check(spec);
        var key = await KeyOfAsync(spec, cancellationToken);
        if (FindUsable(spec.Name, key, rule) is { } existing)
        {
            return existing;
        }

        Directory.CreateDirectory(store.Root);
        using var held = await TemplateLock.AcquireAsync(store.Root, $"builds template '{spec.Name}'", time, report, cancellationToken);
        store.Sweep();
        // Another process may have built the template meanwhile, or a killed one may have moved it aside and Sweep put it back.
        if (FindUsable(spec.Name, key, rule) is { } made)
        {
            return made;
        }

        var start = Stopwatch.GetTimestamp();
        var work = Path.Combine(store.Root, $".build-{spec.Name}-{Path.GetRandomFileName()}");
        var result = Path.Combine(work, "result");
        try
        {
            Directory.CreateDirectory(work, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            Directory.CreateDirectory(result);
            var template = new Template(spec.Name, key, time.GetUtcNow(), spec.VcpuCount, spec.MemoryMiB, TemplateOrigin.Describe(spec))
            {
                Directory = result,
                KernelArguments = spec.KernelArguments,
                BuiltWith = TemplateOrigin.OptionsOf(spec),
                AgentVersion = ChannelHello.Version,
                MaxMemoryMib = spec.MaxMemoryMib,
                MaxVcpus = spec.MaxVcpus,
                MaxDiskMib = spec.MaxDiskMib,
            };
            var sources = await AptSources.ReadAsync(cancellationToken);
            await StepAsync("busybox", () => FetchAsync(work, ["busybox-static"], BusyboxDirectory(work), cancellationToken));
            var modules = spec.KernelPath is null
                ? await StepAsync("kernel and modules", () => FetchKernelAsync(sources, work, template, cancellationToken))
                : await StepAsync("your kernel", () => UseKernelAsync(spec, template, cancellationToken));
            await StepAsync("initrd", () => WriteInitrdAsync(spec, work, template, modules, cancellationToken));
            if (spec.RootPath is null)
            {
                var tree = Path.Combine(work, "root");
                await StepAsync(
                    "root filesystem from packages (about a minute)",
                    () => InstallPackagesAsync(spec, sources, work, tree, cancellationToken));
                if (spec.SetupScriptPath is { } script)
                {
                    await StepAsync("set-up script", () => RunSetupScriptAsync(script, tree, cancellationToken));
                }

                await StepAsync("Pandora's own files", () => FinishTreeAsync(spec, tree, sources, cancellationToken));
                await StepAsync("root image", () => MakeRootImageAsync(tree, template, cancellationToken));
            }
            else
            {
                await StepAsync("your root image", () => UseRootImageAsync(spec, template, cancellationToken));
            }

            await CheckMountPointsAsync(spec, template, cancellationToken);
            await StepAsync(
                "disk image",
                () => Ext4Image.MakeDiskAsync(template.DiskPath, spec.DiskMiB, Path.Combine(work, "disk"), cancellationToken));
            store.Install(template, result);
            report($"template '{spec.Name}' built in {Stopwatch.GetElapsedTime(start).TotalSeconds:0.0} s");
            return store.Find(spec.Name)!;
        }
        catch (CommandException e)
        {
            throw new StartupException($"template '{spec.Name}' could not be built, and nothing was changed: {e.Message}", e);
        }
        catch (RootedPathException e) when (e.HResult != 28 /* ENOSPC */)
        {
            throw new StartupException(
                $"template '{spec.Name}' could not be built, and nothing was changed: in its root filesystem {e.Message}", e);
        }
        catch (IOException e) when (e.HResult == 28 /* ENOSPC */ || e.Message.Contains("No space", StringComparison.OrdinalIgnoreCase))
        {
            throw new StartupException(
                $"template '{spec.Name}' could not be built, and nothing was changed: no room in {store.Root} (about 1 GiB is needed)", e);
        }
        finally
        {
            if (Directory.Exists(work))
            {
                Directory.Delete(work, recursive: true);
            }
        }
    }

    private static void Check(TemplateSpec spec)
    {
        if (!TemplateStore.IsName(spec.Name))
        {
            throw new StartupException(
                $"'{spec.Name}' cannot be a template's name: lower-case letters, digits and hyphens, at most 63, a letter or digit first");
        }

        if (spec.RootPath is not null && (spec.Packages.Count > 0 || spec.SetupScriptPath is not null))
        {
            throw new StartupException(
                "--rootfs is a finished root filesystem, so --packages and --setup cannot be used together with --rootfs");
        }

        if (spec.ModulesPath is not null && (spec.KernelPath is null || !Directory.Exists(spec.ModulesPath)))
        {
            throw new StartupException(
                spec.KernelPath is null
                    ? "--modules are the modules of your own kernel, so --modules needs --kernel"
                    : $"there is no directory '{spec.ModulesPath}'");
        }

        CheckBound("memory", spec.MemoryMiB, spec.MaxMemoryMib);
        CheckBound("vcpus", spec.VcpuCount, spec.MaxVcpus);
        CheckBound("disk", spec.DiskMiB, spec.MaxDiskMib);
        if (!File.Exists(spec.AgentPath))
        {
            throw new StartupException(
                $"there is no guest agent at '{spec.AgentPath}': './pandora template build' makes it, or set PANDORA_AGENT to one");
        }

        foreach (var path in new[] { spec.RootPath, spec.KernelPath, spec.SetupScriptPath })
        {
            if (path is not null && !File.Exists(path))
            {
                throw new StartupException($"there is no file '{path}'");
            }
        }
    }

    private static void CheckBound(string option, int own, int? most)
    {
        if (most < own)
        {
            throw new StartupException($"--max-{option} ({most}) is below --{option} ({own}), which is what microVMs have by default");
        }
    }

    // Returns an existing template that need not be built again; null when a build is needed.
    private Template? FindUsable(string name, string key, RebuildRule rule)
    {
        if (rule == RebuildRule.Always)
        {
            return null;
        }

        Template? described;
        try
        {
            described = store.Read(name);
        }
        catch (StartupException) when (rule != RebuildRule.IfChangedAndNotOwn)
        {
            // The description is damaged: build the template again. If the operator's own templates must be kept, the exception is reported
            // instead, because this may be one of them.
            return null;
        }

        if (described is not null && rule == RebuildRule.IfChangedAndNotOwn
            && TemplateOrigin.OptionsOf(described) is { Count: > 0 } options)
        {
            var own = store.Find(name);
            report($"template '{name}' is kept as it was built, with {string.Join(' ', options.Select(TemplateOrigin.Quote))}");
            report(
                $"  to build it again: {TemplateOrigin.CommandFor(described)} --force; to have Pandora's own instead: ./pandora "
                    + $"template build {name}");
            return own;
        }

        if (described is not null && described.Key == key && described.Files.All(File.Exists))
        {
            report($"template '{name}' is up to date");
            return described;
        }

        if (described is { BuiltWith: null } && rule == RebuildRule.IfChangedAndNotOwn)
        {
            report(
                $"template '{name}' was built by an older Pandora, which did not record the options, and looks like Pandora's own "
                    + "template: it is built again");
        }

        return null;
    }

    internal static async Task<string> KeyOfAsync(TemplateSpec spec, CancellationToken cancellationToken)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        void Add(string text) => hash.AppendData(Encoding.UTF8.GetBytes(text + "\0"));
        Add(RuntimeInformation.ProcessArchitecture.ToString());
        Add(string.Join(',', spec.Packages.Order(StringComparer.Ordinal)));
        Add($"{spec.VcpuCount} {spec.MemoryMiB} {spec.DiskMiB}");
        Add(spec.KernelArguments);
        if (spec.MaxMemoryMib is not null || spec.MaxVcpus is not null || spec.MaxDiskMib is not null)
        {
            // Only then, so that the templates of an older Pandora, which had no bounds, keep their keys.
            Add($"bounds {spec.MaxMemoryMib} {spec.MaxVcpus} {spec.MaxDiskMib}");
        }

        var modules = spec.ModulesPath is null ? [] : Directory.GetFiles(spec.ModulesPath, "*.ko*", SearchOption.AllDirectories);
        foreach (var module in modules.Order(StringComparer.Ordinal))
        {
            Add($"{module} {new FileInfo(module).Length} {File.GetLastWriteTimeUtc(module).Ticks}");
        }

        if (spec.RootPath is null)
        {
            Add(await File.ReadAllTextAsync("/etc/os-release", cancellationToken));
        }

        foreach (var name in Assembly.GetExecutingAssembly().GetManifestResourceNames().Order(StringComparer.Ordinal))
        {
            Add(name);
            hash.AppendData(ReadResource(name));
        }

        foreach (var path in new[] { spec.AgentPath, spec.SetupScriptPath, spec.RootPath, spec.KernelPath }.OfType<string>())
        {
            await using var file = File.OpenRead(path);
            hash.AppendData(await SHA256.HashDataAsync(file, cancellationToken));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private async Task<T> StepAsync<T>(string name, Func<Task<T>> step)
    {
        report($"  {name} …");
        var start = Stopwatch.GetTimestamp();
        var result = await step();
        report($"  {name}: {Stopwatch.GetElapsedTime(start).TotalSeconds:0.0} s");
        return result;
    }

    private Task StepAsync(string name, Func<Task> step) => StepAsync(name, async () =>
    {
        await step();
        return true;
    });

    private static async Task<IReadOnlyList<(string Name, byte[] Content)>> FetchKernelAsync(
        AptSources sources, string work, Template template, CancellationToken cancellationToken)
    {
        var unpacked = Path.Combine(work, "kernel");
        var meta = KernelPackage.MetaPackage(sources.Distribution);
        string[] question =
            ["depends", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", meta];
        var depends = await AptErrors.RunAsync("apt-cache", question, $"looking up the kernel package {meta}", null, cancellationToken);
        var image =
            depends
                .Split('\n')
                .Select(l => l.Trim())
                .Where(l => l.StartsWith("Depends: linux-image", StringComparison.Ordinal))
                .Select(l => l["Depends: ".Length..])
                .FirstOrDefault()
            ?? throw new StartupException($"apt does not know the kernel package {meta}: run 'apt-get update'");
        string[] packages =
            sources.Distribution == "ubuntu" ? [image, image.Replace("linux-image", "linux-modules", StringComparison.Ordinal)] : [image];
        await FetchAsync(work, packages, unpacked, cancellationToken);
        await KernelPackage.UncompressAsync(
            Directory.GetFiles(Path.Combine(unpacked, "boot"), "vmlinu*").Single(), template.KernelPath, cancellationToken);
        var root = new[] { "lib/modules", "usr/lib/modules" }.Select(p => Path.Combine(unpacked, p)).First(Directory.Exists);
        return await KernelPackage.LoadModulesAsync(Directory.GetDirectories(root).Single(), cancellationToken);
    }

    // Downloads and unpacks packages of the distribution, without installing them.
    private static async Task FetchAsync(string work, IReadOnlyList<string> packages, string target, CancellationToken cancellationToken)
    {
        var archives = Directory.CreateDirectory(Path.Combine(work, $"archives-{packages[0]}")).FullName;
        // As root, because apt's own user cannot write there. apt checks the packages' signatures as always.
        string[] fetch =
            ["-c", "cd \"$1\" && shift && exec apt-get -q -o APT::Sandbox::User=root download \"$@\"", "fetch", archives, .. packages];
        await AptErrors.RunAsync("sh", fetch, $"fetching {string.Join(", ", packages)}", null, cancellationToken);
        foreach (var package in Directory.GetFiles(archives, "*.deb"))
        {
            await Command.RunAsync("dpkg-deb", ["-x", package, target], cancellationToken: cancellationToken);
        }
    }

    // The distribution's static busybox, not the host's: it runs in the initrd, where there is no libc.
    private static string BusyboxDirectory(string work) => Path.Combine(work, "busybox");

    private static string Busybox(string work) =>
        new[] { "bin/busybox", "usr/bin/busybox" }.Select(p => Path.Combine(BusyboxDirectory(work), p)).First(File.Exists);

    private static async Task<IReadOnlyList<(string Name, byte[] Content)>> UseKernelAsync(
        TemplateSpec spec, Template template, CancellationToken cancellationToken)
    {
        await KernelPackage.UncompressAsync(spec.KernelPath!, template.KernelPath, cancellationToken);
        return spec.ModulesPath is null ? [] : await KernelPackage.LoadModulesAsync(spec.ModulesPath, cancellationToken);
    }

    private static async Task WriteInitrdAsync(
        TemplateSpec spec,
        string work,
        Template template,
        IReadOnlyList<(string Name, byte[] Content)> modules,
        CancellationToken cancellationToken)
    {
        using var archive = new MemoryStream();
        var cpio = new CpioArchive(archive);
        foreach (var directory in new[] { "bin", "dev", "proc", "base", "own", "root", "modules", "machine", "pandora" })
        {
            cpio.AddDirectory(directory);
        }

        cpio.AddFile("bin/busybox", await File.ReadAllBytesAsync(Busybox(work), cancellationToken), 0x1ED);
        cpio.AddFile("init", ReadResource("guest/initrd-init"), 0x1ED);
        // The guest runs these, and not files of the root filesystem: so a root filesystem that the user brings needs none of them.
        cpio.AddFile("pandora/init", ReadResource("guest/init"));
        cpio.AddFile("pandora/agent", await File.ReadAllBytesAsync(spec.AgentPath, cancellationToken), 0x1ED);
        cpio.AddFile("modules/order", Encoding.UTF8.GetBytes(string.Concat(modules.Select(m => m.Name + "\n"))));
        foreach (var (name, content) in modules)
        {
            cpio.AddFile($"modules/{name}", content);
        }

        cpio.Finish();
        File.Copy(spec.AgentPath, template.AgentPath);
        File.SetUnixFileMode(template.AgentPath, Executable);
        if (spec.KernelPath is not null)
        {
            // It is not known which compressions a user's kernel supports. Every kernel takes an uncompressed initrd.
            await File.WriteAllBytesAsync(template.InitrdPath, archive.ToArray(), cancellationToken);
            return;
        }

        var unpacked = template.InitrdPath + ".cpio";
        await File.WriteAllBytesAsync(unpacked, archive.ToArray(), cancellationToken);
        // -l writes the old LZ4 format, the only LZ4 format that the kernel takes. Its decompression is several times faster than gzip's.
        await Command.RunAsync("lz4", ["-q", "-l", "-9", unpacked, template.InitrdPath], cancellationToken: cancellationToken);
        File.Delete(unpacked);
    }

    private static async Task MakeRootImageAsync(string tree, Template template, CancellationToken cancellationToken)
    {
        // Room for the tree and for the file system's tables, and no more, because it is read-only. Neither du nor mke2fs follows a link in
        // the tree or opens a FIFO or a device.
        var used = long.Parse(
            (await Command.RunAsync("du", ["-s", "--block-size=1M", tree], cancellationToken: cancellationToken)).Split('\t')[0]);
        await Ext4Image.MakeAsync(tree, template.RootPath, (used * 5 / 4) + 64, "lazy_itable_init=0", cancellationToken);
    }

    private static byte[] ReadResource(string name)
    {
        using var stream = Assembly.GetExecutingAssembly().GetManifestResourceStream(name)!;
        var bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }
}
