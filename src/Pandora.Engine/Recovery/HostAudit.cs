using System.Globalization;
using System.Net;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Templates;
using Pandora.Linux;
using Pandora.Vmm.Host;
using Pandora.Vmm;

namespace Pandora.Engine.Recovery;

/// <summary>Lists everything that an instance has on its host, by the instance id in its name, and whose it is. A server asks itself;
/// anybody else looks from outside, whether a server runs or not. It changes nothing but in <see cref="FixAsync"/>.</summary>
/// <param name="options">Whose instance.</param>
/// <param name="time">For the pause between two looks.</param>
public sealed class HostAudit(EngineOptions options, TimeProvider time)
{
    private static readonly TimeSpan Between = TimeSpan.FromSeconds(2);
    private readonly HostNames? _names = HostNames.ReadInstanceId(options.DataDir) is { } id ? new HostNames(id, options) : null;

    /// <summary>What the server holds that audits itself; null to look from outside.</summary>
    internal LiveMicroVms? Live { get; init; }

    /// <summary>The network of the server that audits itself; null to look at the host's own.</summary>
    internal IHostNetwork? Network { get; init; }

    /// <summary>The instance id; null when no server ever ran on the data directory.</summary>
    public string? InstanceId => _names?.InstanceId;

    private HostNames Names => _names ?? throw new InvalidOperationException("no server ever ran on the data directory");

    /// <summary>
    /// Lists everything. What is nobody's is listed as such only when it was so two seconds before as well: things come and go while one
    /// looks.
    /// </summary>
    /// <exception cref="StartupException">The host does not let itself be looked at.</exception>
    public async Task<IReadOnlyList<AuditedResource>> ScanTwiceAsync(CancellationToken cancellationToken)
    {
        var first = Scan();
        if (first.All(r => r.Owner is not null))
        {
            return first;
        }

        await Task.Delay(Between, time, cancellationToken);
        return Confirm(first, Scan());
    }

    /// <summary>
    /// The second of two looks; what is a leftover only there is left out, for it may be about to get its owner or to go.
    /// </summary>
    public static IReadOnlyList<AuditedResource> Confirm(IReadOnlyList<AuditedResource> first, IReadOnlyList<AuditedResource> second)
    {
        var before = first.Where(r => r.Owner is null).ToHashSet();
        return [.. second.Where(r => r.Owner is not null || before.Contains(r))];
    }

    /// <summary>Lists everything as it is this moment.</summary>
    public IReadOnlyList<AuditedResource> Scan()
    {
        if (_names is null)
        {
            return [];
        }

        try
        {
            var owners = new Owners(options.DataDir, Names, Live);
            return
            [
                .. Processes(owners),
                .. Mounts(owners),
                .. Chroots(Names.MachineDirectory, owners.OfMicroVm),
                .. Cgroups(owners),
                .. Networked(owners),
                .. Files(owners),
                .. Snapshots(owners),
            ];
        }
        catch (Exception e) when (e is NftablesException or UnauthorizedAccessException or IOException)
        {
            throw new StartupException(
                $"the host could not be looked at ({e.Message}): run './pandora doctor --leaks' as root, and again when the host has "
                    + "memory and descriptors to spare",
                e);
        }
    }

    /// <summary>Undoes leftovers.</summary>
    /// <param name="leftovers">What <see cref="ScanTwiceAsync"/> listed without an owner.</param>
    /// <param name="tell">Told of each that could not be undone, and why.</param>
    public async Task FixAsync(IEnumerable<AuditedResource> leftovers, Action<AuditedResource, string> tell)
    {
        foreach (var left in leftovers.Where(l => l.Owner is null).OrderBy(l => l.Kind).ThenByDescending(l => l.Name.Length))
        {
            try
            {
                // Names are used again: what has found an owner since is left alone.
                if (Scan().Any(r => r.Kind == left.Kind && r.Name == left.Name && r.Owner is null))
                {
                    if (Inhabitant(left) is { } pid)
                    {
                        tell(
                            left,
                            $"process {pid} lives in its namespace, so it may be a living microVM's. 'kill {pid}' first if it is none");
                        continue;
                    }

                    await UndoAsync(left);
                }
            }
            catch (Exception e)
                when (e is IOException or UnauthorizedAccessException or CommandException or NftablesException or TimeoutException)
            {
                tell(left, e.Message);
            }
        }
    }

    // Removing either cuts off who lives in it.
    private int? Inhabitant(AuditedResource left) => left.Kind switch
    {
        AuditedKind.Namespace => SlotNamespaces.FindProcess(left.Name),
        AuditedKind.Interface => SlotNamespaces.FindProcess($"{Names.NamespacePrefix}{Names.SlotOf(left.Name)}"),
        _ => null,
    };

    private async Task UndoAsync(AuditedResource left)
    {
        switch (left.Kind)
        {
            case AuditedKind.Process:
                using (var process = ProcessHandle.TryOpen(int.Parse(left.Name, CultureInfo.InvariantCulture)))
                {
                    process?.Kill();
                    await (process?.Exited ?? Task.CompletedTask).WaitAsync(TimeSpan.FromSeconds(10), time);
                }

                break;
            case AuditedKind.Mount:
                await Command.RunAsync("umount", [left.Name]);
                break;
            case AuditedKind.Cgroup:
                await Orphans.KillAsync(left.Name, time);
                await CgroupTree.RemoveAsync(left.Name, time);
                break;
            case AuditedKind.Interface or AuditedKind.Namespace or AuditedKind.Rule or AuditedKind.Tracking:
                await NetworkInventory.RemoveAsync(Enum.Parse<NetworkResourceKind>(left.Kind.ToString()), left.Name);
                break;
            default:
                if (Directory.Exists(left.Name))
                {
                    Directory.Delete(left.Name, recursive: true);
                }
                else
                {
                    File.Delete(left.Name);
                }

                break;
        }
    }

    private IEnumerable<AuditedResource> Processes(Owners owners)
    {
        var (inCgroup, inDirectory) = ($"/{Names.CgroupName}/", Names.RunDirectory + "/");
        foreach (var directory in Directory.GetDirectories("/proc").Where(d => int.TryParse(Path.GetFileName(d), out _)))
        {
            var id = IdIn(Read($"{directory}/cgroup"), inCgroup) ?? FindIdInEnvironment(directory, inDirectory);
            if (id is not null && !Read($"{directory}/stat").Contains(") Z ", StringComparison.Ordinal))
            {
                yield return new(AuditedKind.Process, Path.GetFileName(directory), owners.OfMicroVm(id));
            }
        }
    }

    // Where there are no cgroups, by what its launcher gave it; a command line alone may be anybody's who looks at a file.
    private static string? FindIdInEnvironment(string directory, string inDirectory)
    {
        if (IdIn(Read($"{directory}/cmdline"), inDirectory) is not { Length: > 0 } id)
        {
            return null;
        }

        var environment = ProcessHandle.ReadEnvironment(int.Parse(Path.GetFileName(directory)));
        return environment.Contains($"{VmmProcess.MachineVariable}={id}") ? id : null;
    }

    private IEnumerable<AuditedResource> Mounts(Owners owners) =>
        // proc(5): the fifth field of mountinfo is the mount point, spaces in it as \040.
        File.ReadLines("/proc/self/mountinfo")
            .Select(l => l.Split(' ')[4].Replace("\\040", " ", StringComparison.Ordinal))
            .Where(m => m.StartsWith(Names.MachineDirectory + "/", StringComparison.Ordinal))
            .ToList()
            .Select(m => new AuditedResource(
                AuditedKind.Mount, m, owners.OfMicroVm(m[(Names.MachineDirectory.Length + 1)..].Split('/').ElementAtOrDefault(1) ?? "")));

    /// <summary>Lists jails, and the sockets in those that have an owner. A leftover is removed whole, and never by a name in it.</summary>
    /// <param name="jailDir">Where a directory of each VMM's holds its jails, each named as its microVM.</param>
    /// <param name="ownerOf">The owner of what a microVM has; null when there is no such microVM.</param>
    internal static IEnumerable<AuditedResource> Chroots(string jailDir, Func<string, string?> ownerOf)
    {
        foreach (var jail in Entries(jailDir).Where(Directory.Exists).SelectMany(Entries))
        {
            var owner = ownerOf(Path.GetFileName(jail));
            foreach (var socket in owner is null ? [] : MachineDirectories.SocketsIn(jail))
            {
                yield return new(AuditedKind.Socket, socket, owner);
            }

            yield return new(AuditedKind.Chroot, jail, owner);
        }
    }

    private IEnumerable<AuditedResource> Cgroups(Owners owners)
    {
        var parents = new[] { CgroupTree.DefaultRoot }
            .Concat(Entries(CgroupTree.DefaultRoot).Where(Directory.Exists))
            .Select(d => Path.Combine(d, Names.CgroupName))
            .Where(Directory.Exists);
        foreach (var parent in parents)
        {
            yield return new(AuditedKind.Cgroup, parent, owners.OfInstance);
            foreach (var child in Directory.GetDirectories(parent))
            {
                yield return new(AuditedKind.Cgroup, child, owners.OfMicroVm(Path.GetFileName(child)));
            }
        }
    }

    // A rule is the instance's; all else is a slot's.
    private IEnumerable<AuditedResource> Networked(Owners owners)
    {
        bool IsSlot(IPAddress address) => owners.OfAddress(address) is not null;
        string? OwnerOf(NetworkResource resource) => resource switch
        {
            { Kind: NetworkResourceKind.Rule } => owners.OfInstance,
            { Address: { } address } => owners.OfAddress(address),
            { Slot: { } slot } => owners.OfSlot(slot),
            _ => null,
        };
        var resources = Network?.List(IsSlot) ?? NetworkInventory.List(Names, options.Network, IsSlot);
        return resources.Select(r => new AuditedResource(Enum.Parse<AuditedKind>(r.Kind.ToString()), r.Name, OwnerOf(r))).ToList();
    }

    private IEnumerable<AuditedResource> Files(Owners owners)
    {
        foreach (var path in Entries(Names.RunDirectory))
        {
            var isDirectory = Directory.Exists(path);
            var owner = isDirectory ? owners.OfMicroVm(Path.GetFileName(path)) : owners.OfInstance;
            foreach (var socket in isDirectory ? Entries(path).Where(p => p.EndsWith(".sock", StringComparison.Ordinal)) : [])
            {
                yield return new(AuditedKind.Socket, socket, owner);
            }

            yield return new(AuditedKind.File, path, owner);
        }

        foreach (var disk in Entries(Names.DiskDirectory))
        {
            yield return new(AuditedKind.File, disk, owners.OfMicroVm(Path.GetFileNameWithoutExtension(disk)));
        }

        foreach (var note in Entries(Names.ForwardingDirectory).Select(d => Path.Combine(d, Names.InstanceId)).Where(File.Exists))
        {
            yield return new(AuditedKind.File, note, owners.OfInstance);
        }
    }

    private IEnumerable<AuditedResource> Snapshots(Owners owners)
    {
        var templates = new TemplateStore(options.TemplatePath);
        foreach (var path in Entries(options.SnapshotDir))
        {
            yield return new(AuditedKind.Snapshot, path, OwnerOf(path));
        }

        string? OwnerOf(string path)
        {
            if (SnapshotStore.TemplateOf(path) is not { } template)
            {
                return owners.IsServed ? "the server, which makes it" : null;
            }

            return templates.Has(template) ? $"template {template}" : null;
        }
    }

    private static string[] Entries(string directory)
    {
        try
        {
            return Directory.Exists(directory) ? Directory.GetFileSystemEntries(directory) : [];
        }
        catch (DirectoryNotFoundException)
        {
            // It went while it was looked at.
            return [];
        }
    }

    private static string? IdIn(string text, string before)
    {
        var at = text.IndexOf(before, StringComparison.Ordinal);
        return at < 0 ? null : string.Concat(text[(at + before.Length)..].TakeWhile(char.IsAsciiLetterOrDigit));
    }

    private static string Read(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}
