using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Templates;
using Pandora.Linux;
using Pandora.Vmm.Firecracker;
using Pandora.Vmm.Host;

namespace Pandora.Engine.Recovery;

/// <summary>Lists everything that an instance has on its host, by the instance id in its name, and whose it is. A server asks itself;
/// anybody else looks from outside, whether a server runs or not. It changes nothing but in <see cref="FixAsync"/>.</summary>
/// <param name="options">Whose instance.</param>
/// <param name="time">For the pause between two looks.</param>
public sealed class HostAudit(EngineOptions options, TimeProvider time)
{
    private static readonly TimeSpan Between = TimeSpan.FromSeconds(2);
    private readonly string? _instance = ReadInstance(options.DataDir);

    /// <summary>What the server holds that audits itself; null to look from outside.</summary>
    internal LiveMicroVms? Live { get; init; }

    /// <summary>Lists the host's rules as libnftables' JSON, for the server that audits itself.</summary>
    internal Func<string> ListRules { get; init; } = ListRulesAnew;

    /// <summary>The instance id; null when no server ever ran on the data directory.</summary>
    public string? InstanceId => _instance;

    private string RunDirectory => Path.Combine(options.RunDir, _instance!);

    /// <summary>Lists everything. What is nobody's is listed as such only when it was so two seconds before as well: things come and go while one looks.</summary>
    /// <exception cref="StartupException">The host does not let itself be looked at.</exception>
    public async Task<IReadOnlyList<AuditedResource>> LookTwiceAsync(CancellationToken cancellationToken)
    {
        var first = Look();
        if (first.All(r => r.Owner is not null))
        {
            return first;
        }

        await Task.Delay(Between, time, cancellationToken);
        return Confirm(first, Look());
    }

    /// <summary>The second of two looks; what is a leftover only there is left out, for it may be about to get its owner or to go.</summary>
    public static IReadOnlyList<AuditedResource> Confirm(IReadOnlyList<AuditedResource> first, IReadOnlyList<AuditedResource> second)
    {
        var before = first.Where(r => r.Owner is null).ToHashSet();
        return [.. second.Where(r => r.Owner is not null || before.Contains(r))];
    }

    /// <summary>Lists everything as it is this moment.</summary>
    public IReadOnlyList<AuditedResource> Look()
    {
        if (_instance is null)
        {
            return [];
        }

        try
        {
            var owners = new Owners(options.DataDir, RunDirectory, Live);
            return [.. Processes(owners), .. Mounts(owners), .. Chroots(options.JailDir, owners.OfMicroVm), .. Cgroups(owners),
                .. Interfaces(owners), .. Namespaces(owners), .. Rules(owners), .. Tracked(owners), .. Files(owners), .. Snapshots(owners)];
        }
        catch (Exception e) when (e is NftablesException or UnauthorizedAccessException or IOException)
        {
            throw new StartupException($"the host could not be looked at ({e.Message}): run './pandora doctor --leaks' as root, and again when the host has memory and descriptors to spare", e);
        }
    }

    /// <summary>Undoes leftovers.</summary>
    /// <param name="leftovers">What <see cref="LookTwiceAsync"/> listed without an owner.</param>
    /// <param name="tell">Told of each that could not be undone, and why.</param>
    public async Task FixAsync(IEnumerable<AuditedResource> leftovers, Action<AuditedResource, string> tell)
    {
        foreach (var left in leftovers.Where(l => l.Owner is null).OrderBy(l => l.Kind).ThenByDescending(l => l.Name.Length))
        {
            try
            {
                // Names are used again: what has found an owner since is left alone.
                if (Look().Any(r => r.Kind == left.Kind && r.Name == left.Name && r.Owner is null))
                {
                    if (Inhabitant(left) is { } pid)
                    {
                        tell(left, $"process {pid} lives in its namespace, so it may be a living microVM's. 'kill {pid}' first if it is none");
                        continue;
                    }

                    await UndoAsync(left);
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or CommandException or NftablesException or TimeoutException)
            {
                tell(left, e.Message);
            }
        }
    }

    // Removing either cuts off who lives in it.
    private int? Inhabitant(AuditedResource left) => left.Kind switch
    {
        AuditedKind.Namespace => SlotNamespaces.FindProcess(left.Name),
        AuditedKind.Interface => SlotNamespaces.FindProcess($"pnd-{_instance}-{left.Name[$"pnd{_instance}v".Length..]}"),
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
            case AuditedKind.Interface:
                await IpTool.DeleteLinkAsync(left.Name);
                break;
            case AuditedKind.Namespace:
                await IpTool.DeleteNamespaceAsync(left.Name);
                break;
            case AuditedKind.Rule:
                using (var nftables = new Nftables())
                {
                    nftables.Run($"delete {left.Name}");
                }

                break;
            case AuditedKind.Tracking:
                var parts = left.Name.Split('/');
                Conntrack.Remove(uint.Parse(parts[0], CultureInfo.InvariantCulture), IPAddress.Parse(parts[1]));
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
        var (inCgroup, inDirectory) = ($"/pandora-{_instance}/", RunDirectory + "/");
        foreach (var directory in Directory.GetDirectories("/proc").Where(d => int.TryParse(Path.GetFileName(d), out _)))
        {
            // Where there are no cgroups, by what its launcher gave it; a command line alone may be anybody's who looks at a file.
            var id = IdIn(Read($"{directory}/cgroup"), inCgroup)
                ?? (IdIn(Read($"{directory}/cmdline"), inDirectory) is { Length: > 0 } named && ProcessHandle.ReadEnvironment(int.Parse(Path.GetFileName(directory))).Contains($"{VmmProcess.MachineVariable}={named}") ? named : null);
            if (id is not null && !Read($"{directory}/stat").Contains(") Z ", StringComparison.Ordinal))
            {
                yield return new(AuditedKind.Process, Path.GetFileName(directory), owners.OfMicroVm(id));
            }
        }
    }

    private IEnumerable<AuditedResource> Mounts(Owners owners) =>
        // proc(5): the fifth field of mountinfo is the mount point, spaces in it as \040.
        File.ReadLines("/proc/self/mountinfo").Select(l => l.Split(' ')[4].Replace("\\040", " ", StringComparison.Ordinal))
            .Where(m => m.StartsWith(options.JailDir + "/", StringComparison.Ordinal)).ToList()
            .Select(m => new AuditedResource(AuditedKind.Mount, m, owners.OfMicroVm(m[(options.JailDir.Length + 1)..].Split('/').ElementAtOrDefault(1) ?? "")));

    /// <summary>Lists jails, and the sockets in those that have an owner. A leftover is removed whole, and never by a name in it.</summary>
    /// <param name="jailDir">Where a directory of each VMM's holds its jails, each named as its microVM.</param>
    /// <param name="ownerOf">The owner of what a microVM has; null when there is no such microVM.</param>
    internal static IEnumerable<AuditedResource> Chroots(string jailDir, Func<string, string?> ownerOf)
    {
        foreach (var jail in Entries(jailDir).Where(Directory.Exists).SelectMany(Entries))
        {
            var owner = ownerOf(Path.GetFileName(jail));
            foreach (var socket in owner is null ? [] : FirecrackerVmm.SocketsIn(jail))
            {
                yield return new(AuditedKind.Socket, socket, owner);
            }

            yield return new(AuditedKind.Chroot, jail, owner);
        }
    }

    private IEnumerable<AuditedResource> Cgroups(Owners owners)
    {
        var name = $"pandora-{_instance}";
        foreach (var parent in new[] { "/sys/fs/cgroup" }.Concat(Entries("/sys/fs/cgroup").Where(Directory.Exists)).Select(d => Path.Combine(d, name)).Where(Directory.Exists))
        {
            yield return new(AuditedKind.Cgroup, parent, owners.OfInstance);
            foreach (var child in Directory.GetDirectories(parent))
            {
                yield return new(AuditedKind.Cgroup, child, owners.OfMicroVm(Path.GetFileName(child)));
            }
        }
    }

    private IEnumerable<AuditedResource> Interfaces(Owners owners) =>
        BySlot(AuditedKind.Interface, File.ReadLines("/proc/thread-self/net/dev").Select(l => l.Split(':')[0].Trim()).ToList(), $"pnd{_instance}v", owners);

    private IEnumerable<AuditedResource> Namespaces(Owners owners) =>
        BySlot(AuditedKind.Namespace, [.. Entries("/run/netns").Select(Path.GetFileName).OfType<string>()], $"pnd-{_instance}-", owners);

    private static IEnumerable<AuditedResource> BySlot(AuditedKind kind, IReadOnlyList<string> names, string prefix, Owners owners) =>
        names.Where(n => n.StartsWith(prefix, StringComparison.Ordinal)).Select(n => new AuditedResource(kind, n, int.TryParse(n[prefix.Length..], out var slot) ? owners.OfSlot(slot) : null));

    // Each is named as the command 'delete' wants it.
    private List<AuditedResource> Rules(Owners owners)
    {
        var found = new List<AuditedResource>();
        foreach (var thing in JsonNode.Parse(ListRules())?["nftables"]?.AsArray().OfType<JsonNode>() ?? [])
        {
            if (thing["table"] is { } table && table["name"]?.ToString() == $"pandora_{_instance}")
            {
                found.Add(new(AuditedKind.Rule, $"table {table["family"]} {table["name"]}", owners.OfInstance));
            }
            else if (thing["rule"] is { } rule && rule["comment"]?.ToString() == $"pandora-{_instance}")
            {
                found.Add(new(AuditedKind.Rule, $"rule {rule["family"]} {rule["table"]} {rule["chain"]} handle {rule["handle"]}", owners.OfInstance));
            }
        }

        return found;
    }

    // Each slot's address is one side of all that its guest and the server have opened to one another and to others.
    private IEnumerable<AuditedResource> Tracked(Owners owners)
    {
        var mark = HostNetwork.MarkOf(_instance!);
        return HostNetwork.GuestsIn(Conntrack.Read(mark), options.Network, a => owners.OfAddress(a) is not null)
            .Select(a => new AuditedResource(AuditedKind.Tracking, $"{mark}/{a}", owners.OfAddress(a))).ToList();
    }

    private static string ListRulesAnew()
    {
        using var nftables = new Nftables();
        return nftables.Run("list ruleset", asJson: true);
    }

    private IEnumerable<AuditedResource> Files(Owners owners)
    {
        foreach (var path in Entries(RunDirectory))
        {
            var isDirectory = Directory.Exists(path);
            var owner = isDirectory ? owners.OfMicroVm(Path.GetFileName(path)) : owners.OfInstance;
            foreach (var socket in isDirectory ? Entries(path).Where(p => p.EndsWith(".sock", StringComparison.Ordinal)) : [])
            {
                yield return new(AuditedKind.Socket, socket, owner);
            }

            yield return new(AuditedKind.File, path, owner);
        }

        foreach (var disk in Entries(Path.Combine(options.DataDir, "disks")))
        {
            yield return new(AuditedKind.File, disk, owners.OfMicroVm(Path.GetFileNameWithoutExtension(disk)));
        }

        foreach (var note in Entries(Path.Combine(options.RunDir, "forwarding")).Select(d => Path.Combine(d, _instance!)).Where(File.Exists))
        {
            yield return new(AuditedKind.File, note, owners.OfInstance);
        }
    }

    private IEnumerable<AuditedResource> Snapshots(Owners owners)
    {
        var templates = new TemplateStore(options.TemplatePath);
        foreach (var path in Entries(options.SnapshotDir))
        {
            yield return new(AuditedKind.Snapshot, path, SnapshotStore.TemplateOf(path) is not { } template ? (owners.IsServed ? "the server, which makes it" : null) : templates.Has(template) ? $"template {template}" : null);
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

    private static string? ReadInstance(string dataDir) =>
        Read(Path.Combine(dataDir, "instance")).Trim() is { Length: 5 } id ? id : null;
}
