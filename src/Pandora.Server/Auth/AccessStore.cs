using System.Globalization;
using System.Text.Json;
using Pandora.Engine.Projects;
using Pandora.Engine.Templates;
using Pandora.Linux;

namespace Pandora.Server.Auth;

/// <summary>
/// The file of projects and keys in a data directory. <c>./pandora key</c> and <c>./pandora project</c> change it, one at a time; a running
/// server reads it again. A change is written to another file, which is then renamed: a reader sees the old content or the new one.
/// </summary>
/// <param name="directory">The data directory.</param>
internal sealed class AccessStore(string directory)
{
    private const UnixFileMode Private = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private static readonly TimeSpan LockLimit = TimeSpan.FromSeconds(10), LockPause = TimeSpan.FromMilliseconds(20);

    /// <summary>The file.</summary>
    public string Path => System.IO.Path.Combine(directory, "access.json");

    /// <summary>The file with the key of the host's own command line.</summary>
    public string CliKeyPath => System.IO.Path.Combine(directory, "cli.key");

    /// <summary>The file with the secret by which links to previews are signed.</summary>
    public string PreviewKeyPath => System.IO.Path.Combine(directory, "preview.key");

    /// <summary>The file in which the server notes when keys were used.</summary>
    public string UsesPath => System.IO.Path.Combine(directory, "key-uses.json");

    /// <summary>Identifies the file's content without reading it; null when there is no file.</summary>
    public string? Fingerprint
    {
        get
        {
            var file = new FileInfo(Path);
            return file.Exists
                ? string.Create(
                    CultureInfo.InvariantCulture, $"{FileStatus.FindTarget(Path)?.Inode}/{file.Length}/{file.LastWriteTimeUtc.Ticks}")
                : null;
        }
    }

    /// <summary>Reads the file; null when there is none.</summary>
    /// <exception cref="AccessFileException">It is damaged, or cannot be read.</exception>
    public AccessFile? Read()
    {
        try
        {
            var file = JsonSerializer.Deserialize(File.ReadAllBytes(Path), AccessJson.Default.AccessFile);
            return Check(file) is { } problem ? throw Damaged(problem) : file;
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
        catch (JsonException e)
        {
            throw Damaged(e.Message, e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new AccessFileException($"{Path} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Changes the file, while no other process does.</summary>
    /// <param name="change">Makes the new content from the old one.</param>
    /// <param name="time">Clock of the wait for another process.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="AccessFileException">It is damaged, cannot be written, or another process changes it for too long.</exception>
    public async Task ChangeAsync(Func<AccessFile, AccessFile> change, TimeProvider time, CancellationToken cancellationToken)
    {
        if (!Directory.Exists(directory))
        {
            throw new AccessFileException($"there is no data directory {directory}: './pandora up' makes it");
        }

        var start = time.GetTimestamp();
        FileStream? held;
        while ((held = LockFile.TryOpen(Path + ".lock")) is null)
        {
            if (time.GetElapsedTime(start) > LockLimit)
            {
                throw new AccessFileException($"another process changes {Path}: try again when it has ended");
            }

            await Task.Delay(LockPause, time, cancellationToken);
        }

        await using (held)
        {
            var changed = change(Read() ?? new AccessFile());
            Write(Path, JsonSerializer.SerializeToUtf8Bytes(changed, AccessJson.Default.AccessFile), mustLast: true);
        }
    }

    /// <summary>Writes a file that only its owner can read: a temporary file and a rename.</summary>
    /// <param name="path">The file.</param>
    /// <param name="content">Its new content.</param>
    /// <param name="mustLast">Whether it must outlive a loss of the host's power.</param>
    /// <exception cref="AccessFileException">It could not be written.</exception>
    public static void Write(string path, ReadOnlySpan<byte> content, bool mustLast)
    {
        var temporary = path + ".new";
        try
        {
            // A file that remains from an attempt that was killed may have other permissions.
            File.Delete(temporary);
            var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, UnixCreateMode = Private };
            using (var file = new FileStream(temporary, options))
            {
                file.Write(content);
                file.Flush(mustLast);
            }

            File.Move(temporary, path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new AccessFileException($"{path} cannot be written, and keeps its old content: {e.Message}", e);
        }
    }

    private static string? Check(AccessFile? file)
    {
        if (file is null || file.Version != AccessFile.CurrentVersion)
        {
            return $"it has version {file?.Version}, and this server reads version {AccessFile.CurrentVersion}";
        }

        // The JSON reader lets null into a list.
        if (file.Projects.Any(p => p is null) || file.Keys.Any(k => k is null))
        {
            return "an entry is null";
        }

        if (file.Keys.GroupBy(k => k.Id).Concat(file.Keys.GroupBy(k => k.Name)).FirstOrDefault(g => g.Count() > 1) is { } same)
        {
            return $"two keys have the id or the name '{same.Key}'";
        }

        if (file.Projects.FirstOrDefault(p => !HasValidBounds(p)) is { } wrong)
        {
            return $"project '{wrong.Name}' has a bound that is out of range";
        }

        if (file.Projects.GroupBy(p => p.Name).FirstOrDefault(g => g.Count() > 1) is { } twice)
        {
            return $"project '{twice.Key}' is in it twice";
        }

        if (file.Keys.Count > 0 && !file.NeedsKey)
        {
            return "it has keys, and its member needs_key is not true";
        }

        foreach (var key in file.Keys)
        {
            var isHash = key.Hash.Length == 64 && key.Hash.All(char.IsAsciiHexDigitLower);
            if (!isHash || key.Id != key.Hash[..Key.IdLength])
            {
                return $"key '{key.Name}' has no valid hash and id";
            }

            if (!Enum.IsDefined(key.Role) || file.FindProject(key.Project) is null)
            {
                return $"key '{key.Name}' has a role or a project that does not exist";
            }
        }

        return file.Projects.FirstOrDefault(p => !TemplateStore.IsName(p.Name)) is { } project
            ? $"'{project.Name}' is no name of a project"
            : null;
    }

    private static bool HasValidBounds(Project project) =>
        project is { MaxSandboxes: null or >= 0, MaxVcpus: null or >= 0, MaxMemoryMib: null or >= 0 }
        && project.MaxLifetime is null or (>= 60 and <= 31_536_000)
        && project.Templates?.All(t => t is not null) != false;

    private AccessFileException Damaged(string problem, Exception? cause = null) => new(
        $"{Path} is damaged: {problem}. Repair it or put a copy back; without the file there are no keys and no projects", cause);
}
