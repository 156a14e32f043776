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

/// <summary>
/// Audits a host: lists all resources whose names have the instance's id, and the owner of each. A server audits with what it knows itself;
/// another program audits from outside, whether a server runs or not. Only <see cref="FixAsync"/> changes anything.
/// </summary>
/// <param name="options">Settings of the instance.</param>
/// <param name="time">The clock of the pause between two scans.</param>
public sealed class HostAudit(EngineOptions options, TimeProvider time)
{
    private static readonly TimeSpan ScanPause = TimeSpan.FromSeconds(2);
    private readonly HostNames? _names = HostNames.ReadInstanceId(options.DataDir) is { } id ? new HostNames(id, options) : null;

    /// <summary>The microVMs of the server that audits its host; null to audit from outside.</summary>
    internal LiveMicroVms? Live { get; init; }

    /// <summary>The network of the server that audits its host; null to scan the host's network directly.</summary>
    internal IHostNetwork? Network { get; init; }

    /// <summary>The instance id; null when no server ever ran on the data directory.</summary>
    public string? InstanceId => _names?.InstanceId;

    private HostNames Names => _names ?? throw new InvalidOperationException("no server ever ran on the data directory");

    /// <summary>
    /// Audits the host twice. A resource is listed as an orphan only when it was one two seconds before as well, because resources come and
    /// go during a scan.
    /// </summary>
    /// <exception cref="StartupException">The host could not be scanned.</exception>
    public async Task<IReadOnlyList<AuditedResource>> ScanTwiceAsync(CancellationToken cancellationToken)
    {
        var first = Scan();
        if (first.All(r => r.Owner is not null))
        {
            return first;
        }

        await Task.Delay(ScanPause, time, cancellationToken);
        return Confirm(first, Scan());
    }

    /// <summary>Returns the second of two audits without the orphans that are only in it: they may soon get an owner, or go.</summary>
    public static IReadOnlyList<AuditedResource> Confirm(IReadOnlyList<AuditedResource> first, IReadOnlyList<AuditedResource> second)
    {
        var before = first.Where(r => r.Owner is null).ToHashSet();
        return [.. second.Where(r => r.Owner is not null || before.Contains(r))];
    }

    /// <summary>Audits the host once.</summary>
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
                $"the host could not be scanned ({e.Message}): run './pandora doctor --leaks' as root, and again when the host has "
                    + "memory and descriptors to spare",
                e);
        }
    }

    /// <summary>Removes orphans.</summary>
    /// <param name="orphans">The resources that <see cref="ScanTwiceAsync"/> listed without an owner.</param>
    /// <param name="report">Called for each orphan that could not be removed, with the reason.</param>
    public async Task FixAsync(IEnumerable<AuditedResource> orphans, Action<AuditedResource, string> report)
    {
        foreach (var orphan in orphans.Where(l => l.Owner is null).OrderBy(l => l.Kind).ThenByDescending(l => l.Name.Length))
        {
            try
            {
                // Names are reused: a resource that has an owner by now is not removed.
                if (Scan().Any(r => r.Kind == orphan.Kind && r.Name == orphan.Name && r.Owner is null))
                {
                    if (FindProcessIn(orphan) is { } pid)
                    {
                        report(
                            orphan,
                            $"process {pid} runs in its namespace and may be the VMM of a living microVM. If it is not, 'kill {pid}' "
                                + "first");
                        continue;
                    }

                    await RemoveAsync(orphan);
                }
            }
            catch (Exception e)
                when (e is IOException or UnauthorizedAccessException or CommandException or NftablesException or TimeoutException)
            {
                report(orphan, e.Message);
            }
        }
    }

    // To remove the namespace or interface would disconnect a process that runs in it.
    private int? FindProcessIn(AuditedResource orphan) => orphan.Kind switch
    {
        AuditedKind.Namespace => SlotNamespaces.FindProcess(orphan.Name),
        AuditedKind.Interface => SlotNamespaces.FindProcess($"{Names.NamespacePrefix}{Names.SlotOf(orphan.Name)}"),
        _ => null,
    };

    private async Task RemoveAsync(AuditedResource orphan)
    {
        switch (orphan.Kind)
        {
            case AuditedKind.Process:
                using (var process = ProcessHandle.TryOpen(int.Parse(orphan.Name, CultureInfo.InvariantCulture)))
                {
                    process?.Kill();
                    await (process?.Exited ?? Task.CompletedTask).WaitAsync(TimeSpan.FromSeconds(10), time);
                }

                break;
            case AuditedKind.Mount:
                await Command.RunAsync("umount", [orphan.Name]);
                break;
            case AuditedKind.Cgroup:
                await Orphans.KillAsync(orphan.Name, time);
                await CgroupTree.RemoveAsync(orphan.Name, time);
                break;
            case AuditedKind.Interface or AuditedKind.Namespace or AuditedKind.Rule or AuditedKind.Tracking:
                await NetworkInventory.RemoveAsync(Enum.Parse<NetworkResourceKind>(orphan.Kind.ToString()), orphan.Name);
                break;
            default:
                if (Directory.Exists(orphan.Name))
                {
                    Directory.Delete(orphan.Name, recursive: true);
                }
                else
                {
                    File.Delete(orphan.Name);
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

    // Without cgroups a VMM is recognised by the variable that its launcher set: any program may name a file of the run directory as
    // argument.
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

    /// <summary>
    /// Lists jails, and the sockets in those that have an owner. An orphan jail is removed as a whole; the audit does not trust names in
    /// it.
    /// </summary>
    /// <param name="jailDir">The directory that has, for each VMM, a directory of jails. A jail has the name of its microVM.</param>
    /// <param name="ownerOf">Finds the owner of a microVM's resources; null when there is no such microVM.</param>
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

    // Rules have the instance as owner; all other resources have a slot.
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
            // The directory was deleted during the scan.
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
