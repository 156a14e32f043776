using Pandora.Linux;

namespace Pandora.Engine.Node;

/// <summary>
/// The instance of one data directory. Its id, five characters of base 36, is in the name of every host resource, so that two servers, or a
/// server and a test run, never use the same resource. While this object is open it holds two locks (flock(2)): on the data directory, and
/// on the instance id on this host, wherever the directories are.
/// </summary>
public sealed class Instance : IDisposable
{
    /// <summary>
    /// Directory of the locks on instance ids. Only root can create files in <c>/run</c>; in <c>/run/lock</c> every user can.
    /// </summary>
    public const string LockDirectory = "/run/pandora-locks";
    private readonly IReadOnlyList<FileStream> _locks;
    private readonly string _pidPath;

    private Instance(HostNames names, string pidPath, IReadOnlyList<FileStream> locks)
    {
        Names = names;
        _pidPath = pidPath;
        _locks = locks;
    }

    /// <summary>Names of the instance's resources on the host.</summary>
    public HostNames Names { get; }

    /// <summary>The permissions that were wrong and were repaired, in sentences for the log.</summary>
    public IReadOnlyList<string> Repaired { get; private init; } = [];

    /// <summary>Locks a data directory and its instance id on this host. Makes the missing directories.</summary>
    /// <param name="options">Paths of the directories.</param>
    /// <param name="lockDirectory">Directory of the lock on the instance id: one for each host.</param>
    /// <exception cref="StartupException">Another server uses a directory, the server cannot write to it, or other users can.</exception>
    public static Instance Open(EngineOptions options, string lockDirectory = LockDirectory)
    {
        ArgumentNullException.ThrowIfNull(options);
        var lockPath = Path.Combine(options.DataDir, "lock");
        var repaired = new List<string>();
        var locks = new List<FileStream>();
        try
        {
            PrivateDirectory.Ensure(options.DataDir, repaired.Add);
            locks.Add(
                LockFile.TryOpen(lockPath)
                    ?? throw new StartupException(
                        $"another Pandora server (pid {ReadOwner(options.DataDir)}) uses the data directory {options.DataDir}: "
                            + "'./pandora down' stops it, or set PANDORA_DATA_DIR to another directory"));
            RemoveRuntimeFiles(options.DataDir);
            File.WriteAllText(PidPath(options.DataDir), $"{Environment.ProcessId}\n{ProcessHandle.StartTimeOf(Environment.ProcessId)}\n");
            var id = ReadOrMakeId(options.DataDir);
            // A copied data directory has the same id but another lock. Only one server may use the namespaces, interfaces, table and
            // cgroups of that id.
            PrivateDirectory.Ensure(lockDirectory, repaired.Add);
            locks.Add(
                LockFile.TryOpen(Path.Combine(lockDirectory, id))
                    ?? throw new StartupException(
                        $"another server runs as instance {id} on this host, so the data directory {options.DataDir} is a copy of "
                            + "that server's: remove the file 'instance' in it, and the next start gives it a new id"));
            PrivateDirectory.Ensure(options.RunDir, repaired.Add);
            if (Directory.Exists(options.TemplatePath))
            {
                PrivateDirectory.EnsureReadable(options.TemplatePath, repaired.Add);
            }

            var names = new HostNames(id, options);
            PrivateDirectory.Ensure(names.RunDirectory, repaired.Add);
            RemoveOldLock(Path.Combine(names.RunDirectory, "lock"), id);
            PrivateDirectory.Ensure(names.DiskDirectory, repaired.Add);
            return new Instance(names, PidPath(options.DataDir), locks) { Repaired = repaired };
        }
        catch (Exception e)
        {
            // Deleted while the locks are held. The lock file of the data directory stays.
            locks.Skip(1).ToList().ForEach(l => File.Delete(l.Name));
            locks.ForEach(l => l.Dispose());
            throw e is IOException or UnauthorizedAccessException
                ? new StartupException(
                    $"the server cannot write to one of its directories ({e.Message}): PANDORA_DATA_DIR ({options.DataDir}) and "
                        + $"PANDORA_RUN_DIR ({options.RunDir}) must name directories that it can write to",
                    e)
                : e;
        }
    }

    /// <summary>Unlocks the data directory and the instance id, and removes the run directory if it is empty.</summary>
    public void Dispose()
    {
        if (!_locks[0].CanWrite)
        {
            return;
        }

        if (Directory.Exists(Names.RunDirectory) && !Directory.EnumerateFileSystemEntries(Names.RunDirectory).Any())
        {
            Directory.Delete(Names.RunDirectory);
        }

        File.Delete(_pidPath);
        // Deleted while it is locked: a process that opened it meanwhile finds it gone, and makes a new one.
        File.Delete(_locks[1].Name);
        foreach (var held in _locks.Reverse())
        {
            held.Dispose();
        }
    }

    // The lock file of servers of version 0.1 and before.
    private static void RemoveOldLock(string path, string id)
    {
        if (File.Exists(path))
        {
            using var old = LockFile.TryOpen(path)
                ?? throw new StartupException(
                    $"a server of an earlier version runs as instance {id} on this host: './pandora down' stops it");
            File.Delete(path);
        }
    }

    // Files of a killed server of this data directory.
    private static void RemoveRuntimeFiles(string dataDir)
    {
        if (File.Exists(PidPath(dataDir)) && File.ReadAllLines(PidPath(dataDir)) is [var pid, var start, ..]
            && int.TryParse(pid, out var process) && long.TryParse(start, out var startTime))
        {
            RuntimeFiles.Remove(process, startTime);
        }
    }

    private static string ReadOrMakeId(string dataDir)
    {
        if (HostNames.ReadInstanceId(dataDir) is { } known)
        {
            return known;
        }

        var id = HostNames.NewInstanceId();
        File.WriteAllText(HostNames.InstanceIdPath(dataDir), id + "\n");
        return id;
    }

    private static string ReadOwner(string dataDir) =>
        File.Exists(PidPath(dataDir)) && File.ReadLines(PidPath(dataDir)).FirstOrDefault() is { Length: > 0 } pid ? pid : "unknown";

    // A file beside the lock, because .NET cannot read a locked file.
    private static string PidPath(string dataDir) => Path.Combine(dataDir, "server.pid");
}
