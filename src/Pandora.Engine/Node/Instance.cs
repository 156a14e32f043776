using Pandora.Linux;

namespace Pandora.Engine.Node;

/// <summary>
/// One data directory's server. Its id, five characters of base 36, is in the name of every host resource, so that two servers, or a test
/// run beside one, never meet. Holding this object holds two locks (flock(2)): on the data directory, and on what the id names on this
/// host, wherever the directories are.
/// </summary>
public sealed class Instance : IDisposable
{
    /// <summary>Where the locks of the instances' names are on a host. Nobody but root can make anything in <c>/run</c>; in
    /// <c>/run/lock</c> anybody can.</summary>
    public const string LockDirectory = "/run/pandora-locks";
    private readonly IReadOnlyList<FileStream> _locks;
    private readonly string _pidPath;

    private Instance(HostNames names, string pidPath, IReadOnlyList<FileStream> locks)
    {
        Names = names;
        _pidPath = pidPath;
        _locks = locks;
    }

    /// <summary>Names of what it has on the host.</summary>
    public HostNames Names { get; }

    /// <summary>What was not as it should be and was mended, in sentences for the log.</summary>
    public IReadOnlyList<string> Mended { get; private init; } = [];

    /// <summary>Locks a data directory and the names that its id stands for on this host, making it and the instance's own directories
    /// where they are missing.</summary>
    /// <param name="options">Where the directories are.</param>
    /// <param name="lockDirectory">Where the lock on the names is: one directory a host.</param>
    /// <exception cref="StartupException">Another server has it, or it cannot be written to, or is not the server's alone.</exception>
    public static Instance Open(EngineOptions options, string lockDirectory = LockDirectory)
    {
        ArgumentNullException.ThrowIfNull(options);
        var lockPath = Path.Combine(options.DataDir, "lock");
        var mended = new List<string>();
        var locks = new List<FileStream>();
        try
        {
            PrivateDirectory.Ensure(options.DataDir, mended.Add);
            locks.Add(
                LockFile.TryOpen(lockPath)
                    ?? throw new StartupException(
                        $"another Pandora server (pid {ReadOwner(options.DataDir)}) uses the data directory {options.DataDir}: "
                            + "'./pandora down' ends it, or set PANDORA_DATA_DIR to another directory"));
            RemoveRuntimeFiles(options.DataDir);
            File.WriteAllText(PidPath(options.DataDir), $"{Environment.ProcessId}\n{ProcessHandle.StartTimeOf(Environment.ProcessId)}\n");
            var id = ReadOrMakeId(options.DataDir);
            // A copied data directory has the original's id and its own lock: namespaces, interfaces, the table and cgroups of that name
            // are one server's all the same.
            PrivateDirectory.Ensure(lockDirectory, mended.Add);
            locks.Add(
                LockFile.TryOpen(Path.Combine(lockDirectory, id))
                    ?? throw new StartupException(
                        $"another server runs as instance {id} on this host, so the data directory {options.DataDir} is a copy of "
                            + "that one's: remove its file 'instance', and the start makes it one of its own"));
            PrivateDirectory.Ensure(options.RunDir, mended.Add);
            if (Directory.Exists(options.TemplatePath))
            {
                PrivateDirectory.EnsureReadable(options.TemplatePath, mended.Add);
            }

            var names = new HostNames(id, options);
            PrivateDirectory.Ensure(names.RunDirectory, mended.Add);
            RemoveOldLock(Path.Combine(names.RunDirectory, "lock"), id);
            PrivateDirectory.Ensure(names.DiskDirectory, mended.Add);
            return new Instance(names, PidPath(options.DataDir), locks) { Mended = mended };
        }
        catch (Exception e)
        {
            // While they are held. The data directory's own stays, as it was.
            locks.Skip(1).ToList().ForEach(l => File.Delete(l.Name));
            locks.ForEach(l => l.Dispose());
            throw e is IOException or UnauthorizedAccessException
                ? new StartupException(
                    $"a directory of Pandora's cannot be written to ({e.Message}): PANDORA_DATA_DIR ({options.DataDir}) and "
                        + $"PANDORA_RUN_DIR ({options.RunDir}) name directories that can be",
                    e)
                : e;
        }
    }

    /// <summary>Unlocks the data directory and the instance's names, and removes the now empty run directory.</summary>
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
        // While it is locked: a process that opened it meanwhile sees that it is gone and makes another.
        File.Delete(_locks[1].Name);
        foreach (var held in _locks.Reverse())
        {
            held.Dispose();
        }
    }

    // Where servers of version 0.1 and before held it.
    private static void RemoveOldLock(string path, string id)
    {
        if (File.Exists(path))
        {
            using var old = LockFile.TryOpen(path)
                ?? throw new StartupException(
                    $"a server of an earlier version runs as instance {id} on this host: './pandora down' ends it");
            File.Delete(path);
        }
    }

    // Of a server that was killed on this directory.
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

    // Beside the lock, because .NET does not let a locked file be read.
    private static string PidPath(string dataDir) => Path.Combine(dataDir, "server.pid");
}
