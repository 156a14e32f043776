using System.Collections.Concurrent;
using System.Text.Json;
using Pandora.Engine.Templates;
using Pandora.Linux;

namespace Pandora.Engine.Snapshots;

/// <summary>
/// The snapshots in an instance's data directory. Each has a directory, named after variant and key: a template has one for each size that
/// is in use. A snapshot is complete or does not exist: it is made in another directory, which is then renamed.
/// </summary>
public sealed class SnapshotStore(string directory)
{
    /// <summary>Prefix of the directories of unfinished snapshots.</summary>
    public const string Unfinished = ".new-";

    private const string Description = "snapshot.json";
    private static readonly string[] Names = [Snapshot.StateName, Snapshot.MemoryName, Snapshot.DiskName];
    private readonly ConcurrentDictionary<string, string> _verified = new();

    /// <summary>Finds a snapshot, and reads it whole once, so that a damaged or wrong snapshot is found before it is used.</summary>
    /// <param name="variant">Name of the template in its size.</param>
    /// <param name="key">The key that the snapshot must have.</param>
    /// <param name="cancellationToken">Cancels the reading.</param>
    /// <param name="problem">Why the existing snapshot cannot be used; null when there is none, or when it can be used.</param>
    public Snapshot? Find(string variant, string key, CancellationToken cancellationToken, out string? problem)
    {
        problem = null;
        var path = PathOf(variant, key);
        if (!Directory.Exists(path))
        {
            return null;
        }

        try
        {
            var snapshot = JsonSerializer.Deserialize(File.ReadAllBytes(Path.Combine(path, Description)), SnapshotJson.Default.Snapshot);
            if (snapshot is null || snapshot.Key != key || snapshot.Variant != variant || !Names.All(snapshot.Files.ContainsKey))
            {
                problem = "its description is that of another snapshot";
                return null;
            }

            problem = Names.Select(n => Compare(path, n, snapshot.Files[n], cancellationToken)).OfType<string>().FirstOrDefault();
            if (problem is not null)
            {
                return null;
            }

            snapshot = snapshot with { Directory = path };
            _verified[path] = Fingerprint(path);
            return snapshot;
        }
        catch (Exception e) when (e is IOException or JsonException or UnauthorizedAccessException)
        {
            problem = e is JsonException ? "its description is damaged" : e.Message;
            return null;
        }
    }

    /// <summary>Whether the snapshot's files have not been changed or replaced since they were read.</summary>
    public bool IsUntouched(Snapshot snapshot) =>
        _verified.TryGetValue(snapshot.Directory, out var seen) && seen == Fingerprint(snapshot.Directory);

    /// <summary>Makes an empty directory in which a snapshot can be made.</summary>
    public string Begin(string variant)
    {
        const UnixFileMode Private = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        Directory.CreateDirectory(directory, Private);
        return Directory.CreateDirectory(Path.Combine(directory, $"{Unfinished}{variant}-{Path.GetRandomFileName()}"), Private).FullName;
    }

    /// <summary>
    /// Writes the description of a snapshot that was made in a directory, and installs it in place of all others of its template in
    /// its size.
    /// </summary>
    public Snapshot Install(string made, string variant, string key, DateTimeOffset now, CancellationToken cancellationToken)
    {
        var snapshot = new Snapshot(
            key, variant, now, Names.ToDictionary(n => n, n => Describe(Path.Combine(made, n), cancellationToken)));
        File.WriteAllBytes(Path.Combine(made, Description), JsonSerializer.SerializeToUtf8Bytes(snapshot, SnapshotJson.Default.Snapshot));
        DeleteVariant(variant);
        var path = PathOf(variant, key);
        Directory.Move(made, path);
        _verified[path] = Fingerprint(path);
        return snapshot with { Directory = path };
    }

    /// <summary>Removes a snapshot. MicroVMs that were restored from it keep their open files.</summary>
    public void Delete(string variant, string key)
    {
        var path = PathOf(variant, key);
        _verified.TryRemove(path, out _);
        if (Directory.Exists(path))
        {
            Directory.Delete(path, recursive: true);
        }
    }

    /// <summary>Removes the snapshots of a template in one size. MicroVMs that were restored from them keep their open files.</summary>
    public void DeleteVariant(string variant) => Delete(d => VariantOf(d) == variant);

    /// <summary>Removes all of a template's snapshots, in all sizes.</summary>
    public void DeleteAll(string template) => Delete(d => TemplateOf(d) == template);

    /// <summary>Records that a snapshot is used now.</summary>
    public static void Touch(Snapshot snapshot, DateTimeOffset now)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        try
        {
            Directory.SetLastWriteTimeUtc(snapshot.Directory, now.UtcDateTime);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Only the order in which snapshots of sizes are deleted depends on it.
        }
    }

    /// <summary>The variants in other sizes than their template's that have snapshots, the least recently used first.</summary>
    public IReadOnlyList<string> ListSizes() =>
    [
        .. Directories.OrderBy(Directory.GetLastWriteTimeUtc).Select(VariantOf).OfType<string>().Where(Template.IsVariantName).Distinct(),
    ];

    /// <summary>Removes the unfinished snapshots of an earlier server, and the snapshots of removed templates.</summary>
    public void Sweep(Func<string, bool> isTemplate) => Delete(d => TemplateOf(d) is not { } template || !isTemplate(template));

    /// <summary>The template of a snapshot's directory; null when the snapshot is unfinished, or the directory is not a snapshot.</summary>
    public static string? TemplateOf(string path) => VariantOf(path) is { } variant ? Template.NameOf(variant) : null;

    private static string? VariantOf(string path)
    {
        var name = Path.GetFileName(path);
        var end = name.LastIndexOf('-');
        return end <= 0 || name.StartsWith('.') || !File.Exists(Path.Combine(path, Description)) ? null : name[..end];
    }

    private string[] Directories => Directory.Exists(directory) ? Directory.GetDirectories(directory) : [];

    private void Delete(Func<string, bool> isMeant)
    {
        foreach (var path in Directories.Where(isMeant))
        {
            _verified.TryRemove(path, out _);
            Directory.Delete(path, recursive: true);
        }
    }

    private string PathOf(string variant, string key) => Path.Combine(directory, $"{variant}-{key[..16]}");

    private static string? Compare(string path, string name, SnapshotFile expected, CancellationToken cancellationToken)
    {
        var file = Path.Combine(path, name);
        if (!File.Exists(file))
        {
            return $"its file '{name}' is missing";
        }

        if (new FileInfo(file).Length != expected.Length)
        {
            return $"its file '{name}' has another length";
        }

        var isSame = Describe(file, cancellationToken).Sha256 == expected.Sha256;
        return isSame ? null : $"its file '{name}' is damaged or belongs to another snapshot";
    }

    private static SnapshotFile Describe(string path, CancellationToken cancellationToken) =>
        new(new FileInfo(path).Length, SparseFile.Hash(path, cancellationToken));

    private static string Fingerprint(string path) =>
        string.Join(
            ' ',
            Names.Select(n => new FileInfo(Path.Combine(path, n))).Select(f => f.Exists ? $"{f.Length}/{f.LastWriteTimeUtc.Ticks}" : "gone")
        );
}
