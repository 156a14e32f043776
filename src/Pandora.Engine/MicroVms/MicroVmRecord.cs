using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using System.Text.Json.Serialization;
using Pandora.Engine.Admission;
using Pandora.Vmm;

namespace Pandora.Engine.MicroVms;

/// <summary>
/// The resources of a microVM, kept in <c>record.json</c> in its run directory. The record is written before the resources exist, and again
/// when a claim changes it, so that a server that starts after a crash knows what to adopt or clean up. There is no fsync: nothing of a
/// microVM survives a restart of the host.
/// </summary>
public sealed record MicroVmRecord
{
    /// <summary>Name of the file in the microVM's run directory.</summary>
    public const string FileName = "record.json";

    /// <summary>The version of the format that this server writes and reads.</summary>
    public const int CurrentVersion = 2;

    /// <summary>Version of the format. A reader refuses other versions.</summary>
    public int Version { get; init; } = CurrentVersion;

    /// <summary>
    /// The kernel's boot id when the record was written (<c>/proc/sys/kernel/random/boot_id</c>). After a restart of the host the microVM
    /// does not exist, and another process may have its pid.
    /// </summary>
    public required string BootId { get; init; }

    /// <summary>The microVM's id.</summary>
    public required string Id { get; init; }

    /// <summary>The instance that owns it.</summary>
    public required string Instance { get; init; }

    /// <summary>Name of the template.</summary>
    public required string Template { get; init; }

    /// <summary>Number of the network slot.</summary>
    public required int Slot { get; init; }

    /// <summary>Address at which the host reaches the guest.</summary>
    public required string Address { get; init; }

    /// <summary>The range of the slot's addresses. The next server continues with the same range.</summary>
    public required string Network { get; init; }

    /// <summary>User id of the VMM.</summary>
    public required int Uid { get; init; }

    /// <summary>The guest's SSH host key, base64.</summary>
    public required string HostKey { get; init; }

    /// <summary>The guest's secret, base64; null for the guests of an older Pandora. Only root can read the record.</summary>
    public string? Secret { get; init; }

    /// <summary>Version of the streams' protocol of the guest's agent; 0 for an agent of an older Pandora, which has none.</summary>
    public int AgentVersion { get; init; }

    /// <summary>How commands reach the guest; null before it was reached, and for the guests of an older Pandora.</summary>
    public ExecWay? Exec { get; init; }

    /// <summary>The VMM; null before it has started.</summary>
    public VirtualMachineHandle? Vmm { get; init; }

    /// <summary>Whether the guest has been reached. Only then can another server adopt the microVM.</summary>
    public bool IsReady { get; init; }

    /// <summary>Whether the guest has an agent that answers.</summary>
    public bool HasAgent { get; init; }

    /// <summary>All resources of the microVM on the host, oldest first.</summary>
    public required IReadOnlyList<HostResource> Resources { get; init; }

    /// <summary>Size of the microVM; null in a record of an older Pandora.</summary>
    public MicroVmSize? Size { get; init; }

    /// <summary>The client's claim; null before the microVM is claimed.</summary>
    public ClaimRecord? Claim { get; init; }

    /// <summary>Writes the record atomically: a temporary file and a rename.</summary>
    /// <param name="directory">The microVM's run directory.</param>
    public void Write(string directory)
    {
        var path = PathIn(directory);
        var temporary = path + ".new";
        File.WriteAllBytes(temporary, Bytes());
        File.Move(temporary, path, overwrite: true);
    }

    /// <summary>Whether the file in a run directory contains exactly this record.</summary>
    /// <exception cref="IOException">The file could not be read.</exception>
    public bool IsIn(string directory)
    {
        try
        {
            return File.ReadAllBytes(PathIn(directory)).AsSpan().SequenceEqual(Bytes());
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return false;
        }
    }

    /// <summary>The boot id of this host.</summary>
    public static string HostBootId { get; } = File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim();

    /// <summary>Reads the record in a run directory.</summary>
    /// <param name="directory">The microVM's run directory, whose name is its id.</param>
    /// <param name="record">The record, when the server can read it and it belongs to this directory.</param>
    /// <param name="problem">Otherwise the problem, for people.</param>
    public static bool TryRead(string directory, [NotNullWhen(true)] out MicroVmRecord? record, [NotNullWhen(false)] out string? problem)
    {
        record = null;
        try
        {
            var bytes = File.ReadAllBytes(PathIn(directory));
            using (var document = JsonDocument.Parse(bytes))
            {
                // The version first: a record of another version may have any other form.
                if (document.RootElement.GetProperty("version").GetInt32() is var version && version != CurrentVersion)
                {
                    problem = $"its record has version {version}, and this server reads version {CurrentVersion}";
                    return false;
                }
            }

            var read = JsonSerializer.Deserialize(bytes, RecordJson.Default.MicroVmRecord);
            if (read is null || read.Id != Path.GetFileName(directory) || read.Slot < 0)
            {
                problem = "its record belongs to another microVM";
                return false;
            }

            (record, problem) = (read, null);
            return true;
        }
        catch (FileNotFoundException)
        {
            problem = "it has no record yet";
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            problem = "its record is damaged";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            problem = $"its record cannot be read: {e.Message}";
        }

        return false;
    }

    private byte[] Bytes() => JsonSerializer.SerializeToUtf8Bytes(this, RecordJson.Default.MicroVmRecord);

    private static string PathIn(string directory) => Path.Combine(directory, FileName);
}

/// <summary>The values that a client asked for when it claimed a microVM.</summary>
/// <param name="IdleTimeout">Idle time in seconds after which the sandbox is ended.</param>
/// <param name="Egress">What the guest may reach, where no range applies.</param>
/// <param name="Metadata">The client's names and values.</param>
/// <param name="CreatedAt">Time of the claim.</param>
/// <param name="IdempotencyKey">The client's key for this claim, or null.</param>
public sealed record ClaimRecord(
    double IdleTimeout,
    Egress Egress,
    IReadOnlyDictionary<string, string> Metadata,
    DateTimeOffset CreatedAt,
    string? IdempotencyKey = null)
{
    /// <summary>Hash of the request, which shows when its key is used for another request; null without a key.</summary>
    public string? RequestHash { get; init; }

    /// <summary>Name of the project; null in a claim of an older Pandora, which belongs to the default project.</summary>
    public string? Project { get; init; }

    /// <summary>Ports whose previews need neither key nor link; null for none.</summary>
    public IReadOnlyList<int>? PublicPorts { get; init; }

    /// <summary>Public keys that may log in by SSH; null for none.</summary>
    public IReadOnlyList<string>? SshKeys { get; init; }

    /// <summary>When the sandbox ends even while it is busy; null for no such time.</summary>
    public DateTimeOffset? EndsAt { get; init; }

    /// <summary>What a front end keeps with the sandbox; null for nothing.</summary>
    public IReadOnlyDictionary<string, string>? Annotations { get; init; }

    /// <summary>Whether what the guest uses is recorded.</summary>
    public bool RecordsUsage { get; init; }

    /// <summary>Ranges that the guest may reach beside <see cref="Egress"/>; null for none.</summary>
    public IReadOnlyList<Ipv4Network>? EgressAllow { get; init; }

    /// <summary>Ranges that the guest may not reach; null for none.</summary>
    public IReadOnlyList<Ipv4Network>? EgressDeny { get; init; }

    /// <summary>All that the guest may reach.</summary>
    [JsonIgnore]
    public EgressPolicy EgressPolicy
    {
        get => new(Egress) { Allow = EgressAllow ?? [], Deny = EgressDeny ?? [] };
        init
        {
            Egress = value.Default;
            EgressAllow = value.Allow.Count > 0 ? [.. value.Allow] : null;
            EgressDeny = value.Deny.Count > 0 ? [.. value.Deny] : null;
        }
    }

    /// <summary>Name of the project.</summary>
    [JsonIgnore]
    public string ProjectName => Project ?? Projects.Project.DefaultName;
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UseStringEnumConverter = true,
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true,
    Converters = [typeof(RangeConverter)])]
[JsonSerializable(typeof(MicroVmRecord))]
internal sealed partial class RecordJson : JsonSerializerContext;

/// <summary>Writes a range as <c>10.0.0.0/8</c>.</summary>
internal sealed class RangeConverter : JsonConverter<Ipv4Network>
{
    public override Ipv4Network Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        Ipv4Network.TryParse(reader.GetString() ?? "", out var range) ? range : throw new JsonException("is not an IPv4 range");

    public override void Write(Utf8JsonWriter writer, Ipv4Network value, JsonSerializerOptions options) =>
        writer.WriteStringValue(value.ToString());
}
