using System.Text.Json;

namespace Pandora.Server.Auth;

/// <summary>What the server notes about keys in a file of its own, which only it writes.</summary>
internal sealed record KeyUsesFile
{
    /// <summary>The last use of each key that was used, by id.</summary>
    public IReadOnlyDictionary<string, DateTimeOffset> LastUses { get; init => field = value ?? field; } =
        new Dictionary<string, DateTimeOffset>();

    /// <summary>
    /// Ids of the keys that have expired. They stay expired when the clock is set back and the server starts again.
    /// </summary>
    public IReadOnlyList<string> Expired { get; init => field = value ?? []; } = [];

    /// <summary>Reads the file. A missing or damaged file is an empty one: it decides nothing but what was noted before.</summary>
    public static KeyUsesFile Read(AccessStore store)
    {
        try
        {
            return JsonSerializer.Deserialize(File.ReadAllBytes(store.UsesPath), AccessJson.Default.KeyUsesFile) ?? new KeyUsesFile();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            return new KeyUsesFile();
        }
    }

    /// <summary>Writes the file.</summary>
    /// <exception cref="AccessFileException">It could not be written.</exception>
    public void Write(AccessStore store) =>
        AccessStore.Write(store.UsesPath, JsonSerializer.SerializeToUtf8Bytes(this, AccessJson.Default.KeyUsesFile), mustLast: false);
}
