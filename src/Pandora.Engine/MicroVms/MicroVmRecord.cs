using System.Text.Json;
using System.Text.Json.Serialization;
using Pandora.Vmm;

namespace Pandora.Engine.MicroVms;

/// <summary>
/// What a microVM owns, kept in <c>record.json</c> in its run directory. It is written before the resources exist and again when a claim changes it, so that whoever
/// starts after a crash knows what to adopt or undo. No fsync: nothing of a microVM outlives the host.
/// </summary>
public sealed record MicroVmRecord
{
    /// <summary>Format; a reader refuses newer ones.</summary>
    public int Version { get; init; } = 1;

    /// <summary>The microVM's id.</summary>
    public required string Id { get; init; }

    /// <summary>The instance that owns it.</summary>
    public required string Instance { get; init; }

    /// <summary>Name of its template.</summary>
    public required string Template { get; init; }

    /// <summary>Number of its network slot.</summary>
    public required int Slot { get; init; }

    /// <summary>User id of its VMM.</summary>
    public required int Uid { get; init; }

    /// <summary>The guest's SSH host key, base64.</summary>
    public required string HostKey { get; init; }

    /// <summary>Its VMM, once there is one.</summary>
    public VirtualMachineHandle? Vmm { get; init; }

    /// <summary>Everything it owns on the host, oldest first.</summary>
    public required IReadOnlyList<HostResource> Resources { get; init; }

    /// <summary>The client's claim, once there is one.</summary>
    public ClaimRecord? Claim { get; init; }

    /// <summary>Writes it in one step: a temporary file and a rename.</summary>
    /// <param name="directory">The microVM's run directory.</param>
    public void Write(string directory)
    {
        var path = PathIn(directory);
        var temporary = path + ".new";
        File.WriteAllBytes(temporary, JsonSerializer.SerializeToUtf8Bytes(this, RecordJson.Default.MicroVmRecord));
        File.Move(temporary, path, overwrite: true);
    }

    /// <summary>Reads one, or null when there is none that this version understands.</summary>
    public static MicroVmRecord? TryRead(string directory)
    {
        try
        {
            var record = JsonSerializer.Deserialize(File.ReadAllBytes(PathIn(directory)), RecordJson.Default.MicroVmRecord);
            return record is { Version: 1 } ? record : null;
        }
        catch (Exception e) when (e is IOException or JsonException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string PathIn(string directory) => Path.Combine(directory, "record.json");
}

/// <summary>What a client asked for when it claimed a microVM.</summary>
/// <param name="IdleTimeout">Seconds.</param>
/// <param name="Egress">What the guest may reach.</param>
/// <param name="Metadata">The client's pairs.</param>
/// <param name="CreatedAt">When.</param>
public sealed record ClaimRecord(double IdleTimeout, Egress Egress, IReadOnlyDictionary<string, string> Metadata, DateTimeOffset CreatedAt);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, UseStringEnumConverter = true)]
[JsonSerializable(typeof(MicroVmRecord))]
[JsonSerializable(typeof(Templates.Template))]
internal sealed partial class RecordJson : JsonSerializerContext;
