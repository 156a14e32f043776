using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Pandora.Engine;

/// <summary>
/// Names of the resources of one instance on its host. All code that makes, finds or removes a resource gets its name here.
/// </summary>
public sealed class HostNames
{
    /// <summary>Prefix of every interface of every instance.</summary>
    public const string AnyInterfacePrefix = "pnd";

    /// <summary>Directory of the named network namespaces (ip-netns(8)).</summary>
    public const string NamespaceDirectory = "/run/netns";

    private const string Letters = "abcdefghijklmnopqrstuvwxyz0123456789";
    private const int InstanceIdLength = 5, MicroVmIdLength = 24;
    private readonly int _uidBase;

    /// <param name="instanceId">The instance's id.</param>
    /// <param name="options">Paths of the instance's directories.</param>
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

    /// <summary>Directory of the files that a VMM needs in addition to the run directory of a machine, such as a jail.</summary>
    public string MachineDirectory { get; }

    /// <summary>Directory in which each instance of a run directory notes that it has turned on forwarding.</summary>
    public string ForwardingDirectory { get; }

    /// <summary>Name of the nftables table.</summary>
    public string TableName => $"pandora_{InstanceId}";

    /// <summary>Comment of each rule in a table that the instance did not create.</summary>
    public string RuleComment => $"pandora-{InstanceId}";

    /// <summary>Name of the parent cgroup.</summary>
    public string CgroupName => $"pandora-{InstanceId}";

    /// <summary>Prefix of every host interface of this instance; the slot's number follows.</summary>
    public string InterfacePrefix => $"{AnyInterfacePrefix}{InstanceId}v";

    /// <summary>Prefix of every network namespace of this instance; the slot's number follows.</summary>
    public string NamespacePrefix => $"{AnyInterfacePrefix}-{InstanceId}-";

    /// <summary>
    /// Mark of the connections that the host's kernel tracks for the instance's guests: never 0, and no two instances of a host are likely
    /// to share one.
    /// </summary>
    public uint ConnectionMark =>
        BinaryPrimitives.ReadUInt32BigEndian(SHA256.HashData(Encoding.ASCII.GetBytes($"pandora {InstanceId}"))) | 1;

    /// <summary>The user and group id of the VMM in a slot: no two running VMMs share an id.</summary>
    public int UidOf(int slot) => _uidBase + slot;

    /// <summary>A microVM's run directory, whose name is its id.</summary>
    public string DirectoryOf(string microVm) => Path.Combine(RunDirectory, microVm);

    /// <summary>A microVM's disk.</summary>
    public string DiskOf(string microVm) => Path.Combine(DiskDirectory, $"{microVm}.ext4");

    /// <summary>The slot of a namespace or an interface; null when the name is not that of a slot of this instance.</summary>
    public int? SlotOf(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        var prefix = new[] { InterfacePrefix, NamespacePrefix }.FirstOrDefault(p => name.StartsWith(p, StringComparison.Ordinal));
        return prefix is not null && int.TryParse(name.AsSpan(prefix.Length), out var slot) ? slot : null;
    }

    /// <summary>Makes the id of a new microVM: the instance's id, then 19 characters of base 36, 98 bits.</summary>
    public string NewMicroVmId() => InstanceId + RandomNumberGenerator.GetString(Letters, MicroVmIdLength - InstanceIdLength);

    /// <summary>Makes the id of a new instance.</summary>
    public static string NewInstanceId() => RandomNumberGenerator.GetString(Letters, InstanceIdLength);

    /// <summary>Whether a text has the form of an instance id.</summary>
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
