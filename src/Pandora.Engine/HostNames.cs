using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Pandora.Engine;

/// <summary>Names of what one instance has on its host. Who makes a resource, looks for it or removes it asks here for its name.</summary>
public sealed class HostNames
{
    /// <summary>What every interface of every instance begins with.</summary>
    public const string AnyInterfacePrefix = "pnd";

    /// <summary>Where network namespaces are found by their names (ip-netns(8)).</summary>
    public const string NamespaceDirectory = "/run/netns";

    private const string Letters = "abcdefghijklmnopqrstuvwxyz0123456789";
    private const int InstanceIdLength = 5, MicroVmIdLength = 24;
    private readonly int _uidBase;

    /// <param name="instanceId">The instance's id.</param>
    /// <param name="options">Where its directories are.</param>
    public HostNames(string instanceId, EngineOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        InstanceId = instanceId;
        RunDirectory = Path.Combine(options.RunDir, instanceId);
        DiskDirectory = Path.Combine(options.DataDir, "disks");
        MachineDirectory = options.MachineDir;
        ForwardingDirectory = Path.Combine(options.RunDir, "forwarding");
        // A range far above those that people and containers use.
        _uidBase = options.UidBase > 0 ? options.UidBase
            : 0x5000_0000 + ((int)(BitConverter.ToUInt32(SHA256.HashData(Encoding.ASCII.GetBytes(instanceId))) % 8192) * 16384);
    }

    /// <summary>The instance id, <c>^[a-z0-9]{5}$</c>.</summary>
    public string InstanceId { get; }

    /// <summary>Directory of the microVMs' records and sockets.</summary>
    public string RunDirectory { get; }

    /// <summary>Directory of the microVMs' disks.</summary>
    public string DiskDirectory { get; }

    /// <summary>Where a VMM keeps what a machine needs besides its run directory, such as a jail.</summary>
    public string MachineDirectory { get; }

    /// <summary>Where the instances of a run directory note whose forwarding they have turned on.</summary>
    public string ForwardingDirectory { get; }

    /// <summary>Name of the nftables table.</summary>
    public string TableName => $"pandora_{InstanceId}";

    /// <summary>Comment of each rule in a table that is not the instance's own.</summary>
    public string RuleComment => $"pandora-{InstanceId}";

    /// <summary>Name of the parent cgroup.</summary>
    public string CgroupName => $"pandora-{InstanceId}";

    /// <summary>What every interface of the host that belongs to this instance begins with; the slot's number follows.</summary>
    public string InterfacePrefix => $"{AnyInterfacePrefix}{InstanceId}v";

    /// <summary>What every network namespace of this instance begins with; the slot's number follows.</summary>
    public string NamespacePrefix => $"{AnyInterfacePrefix}-{InstanceId}-";

    /// <summary>Mark of the connections that the host's kernel tracks for the instance's guests: never 0, and no two instances of a host
    /// are likely to share one.</summary>
    public uint ConnectionMark =>
        BinaryPrimitives.ReadUInt32BigEndian(SHA256.HashData(Encoding.ASCII.GetBytes($"pandora {InstanceId}"))) | 1;

    /// <summary>The user and group id of the VMM in a slot: no two VMMs that run share one.</summary>
    public int UidOf(int slot) => _uidBase + slot;

    /// <summary>A microVM's run directory, whose name is its id.</summary>
    public string DirectoryOf(string microVm) => Path.Combine(RunDirectory, microVm);

    /// <summary>A microVM's disk.</summary>
    public string DiskOf(string microVm) => Path.Combine(DiskDirectory, $"{microVm}.ext4");

    /// <summary>The slot of a namespace or an interface; null when it is no slot's of this instance.</summary>
    public int? SlotOf(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        var prefix = new[] { InterfacePrefix, NamespacePrefix }.FirstOrDefault(p => name.StartsWith(p, StringComparison.Ordinal));
        return prefix is not null && int.TryParse(name.AsSpan(prefix.Length), out var slot) ? slot : null;
    }

    /// <summary>A new microVM's id: the instance's, then 19 characters of base 36, 98 bits.</summary>
    public string NewMicroVmId() => InstanceId + RandomNumberGenerator.GetString(Letters, MicroVmIdLength - InstanceIdLength);

    /// <summary>A new instance's id.</summary>
    public static string NewInstanceId() => RandomNumberGenerator.GetString(Letters, InstanceIdLength);

    /// <summary>Whether a text can be an instance's id.</summary>
    public static bool IsInstanceId(string text) => text is { Length: InstanceIdLength } && text.All(char.IsAsciiLetterOrDigit);

    /// <summary>The instance id that a data directory holds; null when no server ever ran on it, or it cannot be read.</summary>
    public static string? ReadInstanceId(string dataDirectory)
    {
        try
        {
            return File.ReadAllText(InstanceIdPath(dataDirectory)).Trim() is var id && IsInstanceId(id) ? id : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>The file of a data directory that holds the instance's id.</summary>
    internal static string InstanceIdPath(string dataDirectory) => Path.Combine(dataDirectory, "instance");
}
