using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using System.Text.Json.Serialization;
using Pandora.Engine;
using Pandora.Engine.Projects;

namespace Pandora.Server.Auth;

/// <summary>The projects and keys of an instance, as the file <c>access.json</c> has them. It contains hashes of keys, no key.</summary>
// The JSON reader sets a member that is missing to null.
internal sealed record AccessFile
{
    /// <summary>The version that this server reads and writes.</summary>
    public const int CurrentVersion = 1;

    /// <summary>Version of the file. A file without it is damaged.</summary>
    public int Version { get; init; } = CurrentVersion;

    /// <summary>The projects, by name. The default project exists even when it is not among them.</summary>
    public IReadOnlyList<Project> Projects { get; init => field = value ?? []; } = [];

    /// <summary>
    /// Whether requests need a key. The first key sets it, and it stays when the last key is revoked: nobody is let in by a revocation.
    /// </summary>
    public bool NeedsKey { get; init; }

    /// <summary>The keys, oldest first.</summary>
    public IReadOnlyList<KeyEntry> Keys { get; init => field = value ?? []; } = [];

    /// <summary>Finds a project; the default project always exists.</summary>
    public Project? FindProject(string name) =>
        Projects.FirstOrDefault(p => p.Name == name) ?? (name == Project.DefaultName ? new Project(name) : null);
}

/// <summary>One key.</summary>
/// <param name="Id">The first 8 hexadecimal digits of its hash.</param>
/// <param name="Name">Name of the key, for people; no other key has it.</param>
/// <param name="Project">Name of its project.</param>
/// <param name="Role">What it may do.</param>
/// <param name="Hash">SHA-256 of the key, in hexadecimal digits. A key has 160 random bits, so no slow hash is needed.</param>
/// <param name="Created">When it was made.</param>
/// <param name="Expires">When it ends; null for never.</param>
internal sealed record KeyEntry(
    string Id, string Name, string Project, KeyRole Role, string Hash, DateTimeOffset Created, DateTimeOffset? Expires = null);

/// <summary>The file of projects and keys cannot be read or written; the message says what to do.</summary>
internal sealed class AccessFileException(string message, Exception? innerException = null) : Exception(message, innerException);

/// <summary>Writes the values of an enumeration in lower case, and reads no numbers.</summary>
internal sealed class LowerCaseNames<T>() : JsonStringEnumConverter<T>(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false)
    where T : struct, Enum;

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    Converters = [typeof(LowerCaseNames<KeyRole>), typeof(LowerCaseNames<Egress>)],
    WriteIndented = true,
    AllowDuplicateProperties = false,
    UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(AccessFile))]
[JsonSerializable(typeof(KeyUsesFile))]
[SuppressMessage("Performance", "CA1812", Justification = "The generator uses it")]
internal sealed partial class AccessJson : JsonSerializerContext;
