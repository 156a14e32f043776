using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using System.Text.Json.Serialization;
using Pandora.Vmm;

namespace Pandora.Engine.MicroVms;

/// <summary>
/// What a microVM owns, kept in <c>record.json</c> in its run directory. It is written before the resources exist and again when a claim
/// changes it, so that whoever starts after a crash knows what to adopt or undo. No fsync: nothing of a microVM outlives the host.
/// </summary>
public sealed record MicroVmRecord
{
    /// <summary>Its name in the microVM's run directory.</summary>
    public const string FileName = "record.json";

    /// <summary>The format that this server writes and understands.</summary>
    public const int CurrentVersion = 2;

    /// <summary>Format; a reader refuses others.</summary>
    public int Version { get; init; } = CurrentVersion;

    /// <summary>
    /// The kernel's boot id when it was written (<c>/proc/sys/kernel/random/boot_id</c>): after another boot of the host nothing of it
    /// exists, and its pid is a stranger's.
    /// </summary>
    public required string BootId { get; init; }

    /// <summary>The microVM's id.</summary>
    public required string Id { get; init; }

    /// <summary>The instance that owns it.</summary>
    public required string Instance { get; init; }

    /// <summary>Name of its template.</summary>
    public required string Template { get; init; }

    /// <summary>Number of its network slot.</summary>
    public required int Slot { get; init; }

    /// <summary>Where the host reaches its guest.</summary>
    public required string Address { get; init; }

    /// <summary>The range that its slot's addresses are from: the next server goes on with it.</summary>
    public required string Network { get; init; }

    /// <summary>User id of its VMM.</summary>
    public required int Uid { get; init; }

    /// <summary>The guest's SSH host key, base64.</summary>
    public required string HostKey { get; init; }

    /// <summary>Its VMM, once there is one.</summary>
    public VirtualMachineHandle? Vmm { get; init; }

    /// <summary>Whether its guest has been reached: only then can another server take it over.</summary>
    public bool IsReady { get; init; }

    /// <summary>Whether there is an agent in its guest to be spoken to.</summary>
    public bool HasAgent { get; init; }

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
        File.WriteAllBytes(temporary, Bytes());
        File.Move(temporary, path, overwrite: true);
    }

    /// <summary>Whether the file in a run directory holds exactly this record.</summary>
    /// <exception cref="IOException">It could not be read.</exception>
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

    /// <summary>The boot id of this host now.</summary>
    public static string HostBootId { get; } = File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim();

    /// <summary>Reads one.</summary>
    /// <param name="directory">The microVM's run directory, whose name is its id.</param>
    /// <param name="record">The record, when there is one that this server understands and that is this directory's.</param>
    /// <param name="problem">Else why not, for people.</param>
    public static bool TryRead(string directory, [NotNullWhen(true)] out MicroVmRecord? record, [NotNullWhen(false)] out string? problem)
    {
        record = null;
        try
        {
            var bytes = File.ReadAllBytes(PathIn(directory));
            using (var document = JsonDocument.Parse(bytes))
            {
                // Before all else: another version's may have any other shape.
                if (document.RootElement.GetProperty("version").GetInt32() is var version && version != CurrentVersion)
                {
                    problem = $"its record is of version {version}, and this server understands {CurrentVersion}";
                    return false;
                }
            }

            var read = JsonSerializer.Deserialize(bytes, RecordJson.Default.MicroVmRecord);
            if (read is null || read.Id != Path.GetFileName(directory) || read.Slot < 0)
            {
                problem = "its record is not its own";
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

/// <summary>What a client asked for when it claimed a microVM.</summary>
/// <param name="IdleTimeout">Seconds.</param>
/// <param name="Egress">What the guest may reach.</param>
/// <param name="Metadata">The client's pairs.</param>
/// <param name="CreatedAt">When.</param>
/// <param name="IdempotencyKey">The client's key for this claim, or null.</param>
public sealed record ClaimRecord(
    double IdleTimeout,
    Egress Egress,
    IReadOnlyDictionary<string, string> Metadata,
    DateTimeOffset CreatedAt,
    string? IdempotencyKey = null)
{
    /// <summary>Hash of the request, by which a key used for another one is told; null without a key.</summary>
    public string? RequestHash { get; init; }
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UseStringEnumConverter = true,
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(MicroVmRecord))]
internal sealed partial class RecordJson : JsonSerializerContext;
