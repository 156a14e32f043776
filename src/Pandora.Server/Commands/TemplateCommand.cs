using System.CommandLine;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Templates;
using Pandora.Server.Hosting;

namespace Pandora.Server.Commands;

/// <summary>
/// <c>template build | ls | rm</c>: manages templates. A running server uses a new or rebuilt template from the next boot on.
/// </summary>
internal static class TemplateCommand
{
    public static Command Create()
    {
        var command = new Command("template", "Build, list and remove the templates from which sandboxes start");
        command.Subcommands.Add(CreateBuild());
        command.Subcommands.Add(CreateList());
        command.Subcommands.Add(CreateRemove());
        return command;
    }

    private static Command CreateBuild()
    {
        var name = new Argument<string>("name")
        {
            Description = "Name of the template: lower-case letters, digits, hyphens",
            DefaultValueFactory = _ => EngineOptions.DefaultTemplate,
        };
        var packages = new Option<string>("--packages") { Description = "Distribution packages to add, comma-separated" };
        var setup = new Option<string>("--setup") { Description = "Shell script to run as root in the new root filesystem" };
        var rootfs = new Option<string>("--rootfs")
        {
            Description = "ext4 image to use instead of packages (it must contain bash)",
        };
        var kernel = new Option<string>("--kernel")
        {
            Description = "Kernel to use instead of the distribution's, with virtio, ext4 and overlayfs built in or in --modules",
        };
        var modules = new Option<string>("--modules") { Description = "Directory lib/modules/VERSION of that kernel" };
        var arguments = new Option<string>("--kernel-args") { Description = "Kernel arguments to add to those of the VMM" };
        var vcpus = new Option<int>("--vcpus") { Description = "Virtual CPUs of each microVM", DefaultValueFactory = _ => 1 };
        var memory = new Option<int>("--memory") { Description = "Memory of each microVM in MiB", DefaultValueFactory = _ => 256 };
        var disk = new Option<int>("--disk")
        {
            Description = "Size of each microVM's disk in MiB (sparse)",
            DefaultValueFactory = _ => 2048,
        };
        var maxMemory = new Option<int?>("--max-memory") { Description = "Most memory that a client may ask for, in MiB (default: 65536)" };
        var maxVcpus = new Option<int?>("--max-vcpus") { Description = "Most virtual CPUs that a client may ask for (default: 32)" };
        var maxDisk = new Option<int?>("--max-disk") { Description = "Largest disk that a client may ask for, in MiB (default: 1048576)" };
        var force = new Option<bool>("--force") { Description = "Build even if nothing has changed" };
        var keepOwn = new Option<bool>("--keep-own")
        {
            Description = "Keep a template that was built with any of the options above, as './pandora up' does",
        };
        InRange(vcpus, 1, Limits.MaxVcpus);
        InRange(memory, Limits.MinMemoryMib, Limits.MaxMemoryMib);
        InRange(disk, Limits.MinDiskMib, Limits.MaxDiskMib);
        InRange(maxVcpus, 1, Limits.MaxVcpus);
        InRange(maxMemory, Limits.MinMemoryMib, Limits.MaxMemoryMib);
        InRange(maxDisk, Limits.MinDiskMib, Limits.MaxDiskMib);
        var build = new Command(
            "build",
            "Build a template; does nothing when it is up to date. Only one build runs at a time in a template directory; others wait")
        {
            name, packages, setup, rootfs, kernel, modules, arguments, vcpus, memory, disk, maxMemory, maxVcpus, maxDisk, force, keepOwn,
        };
        build.SetAction(async (result, cancellationToken) =>
        {
            var spec = new TemplateSpec
            {
                Name = result.GetRequiredValue(name),
                AgentPath = ReadOptions().AgentPath,
                Packages = SplitNames(result.GetValue(packages)),
                SetupScriptPath = result.GetValue(setup),
                RootPath = result.GetValue(rootfs),
                KernelPath = result.GetValue(kernel),
                ModulesPath = result.GetValue(modules),
                KernelArguments = result.GetValue(arguments) ?? "",
                VcpuCount = result.GetValue(vcpus),
                MemoryMiB = result.GetValue(memory),
                DiskMiB = result.GetValue(disk),
                MaxMemoryMib = result.GetValue(maxMemory),
                MaxVcpus = result.GetValue(maxVcpus),
                MaxDiskMib = result.GetValue(maxDisk),
            };
            var rule = (result.GetValue(force), result.GetValue(keepOwn)) switch
            {
                (true, _) => RebuildRule.Always,
                (false, true) => RebuildRule.IfChangedAndNotOwn,
                _ => RebuildRule.IfChanged,
            };
            var builder = new TemplateBuilder(OpenStore(), TimeProvider.System, Console.Error.WriteLine);
            await builder.BuildAsync(spec, rule, cancellationToken);
            return 0;
        });
        return build;
    }

    private static Command CreateList()
    {
        var list = new Command("ls", "List the templates");
        list.SetAction(_ =>
        {
            foreach (var template in OpenStore().List())
            {
                Console.WriteLine(
                    $"{template.Name,-20} {template.VcpuCount} vCPU  {template.MemoryMiB,6} MiB  built "
                        + $"{template.CreatedAt:yyyy-MM-dd HH:mm}  {template.Description}");
            }
        });
        return list;
    }

    private static Command CreateRemove()
    {
        var name = new Argument<string>("name") { Description = "Name of the template" };
        var remove = new Command("rm", "Remove a template; waits while a template is built. Running microVMs keep the files that they use")
        {
            name,
        };
        remove.SetAction(async (result, cancellationToken) =>
        {
            var wanted = result.GetRequiredValue(name);
            if (!await OpenStore().RemoveAsync(wanted, TimeProvider.System, Console.Error.WriteLine, cancellationToken))
            {
                throw new StartupException($"there is no template '{wanted}': './pandora template ls' lists the templates");
            }

            new SnapshotStore(ReadOptions().SnapshotDir).DeleteAll(wanted);
            return 0;
        });
        return remove;
    }

    private static TemplateStore OpenStore() => new(ReadOptions().TemplatePath);

    private static EngineOptions ReadOptions() => Settings.Read<EngineOptions>(Settings.File());

    private static string[] SplitNames(string? list) =>
        list?.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries) ?? [];

    private static void InRange<T>(Option<T> option, int least, int most) => option.Validators.Add(result =>
    {
        if (result.GetValueOrDefault<T>() is int value && (value < least || value > most))
        {
            result.AddError($"{option.Name} must be from {least} to {most}, but is {value}");
        }
    });
}
