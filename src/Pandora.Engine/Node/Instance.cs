using System.Security.Cryptography;
using System.Text;
using Pandora.Linux;

namespace Pandora.Engine.Node;

/// <summary>
/// One data directory's server. Its id, five characters of base 36, is in the name of every host resource, so that two servers, or a test run beside one, never meet.
/// Holding this object holds two locks (flock(2)): on the data directory, and on what the id names on this host, wherever the
/// directories are.
/// </summary>
public sealed class Instance : IDisposable
{
    /// <summary>Where the locks of the instances' names are. Nobody but root can make anything in <c>/run</c>; in <c>/run/lock</c> anybody
    /// can.</summary>
    private const string LockDirectory = "/run/pandora-locks";
    private readonly IReadOnlyList<FileStream> _locks;
    private readonly string _pidPath;
    private readonly int _uidBase;

    private Instance(string id, int uidBase, string runDirectory, string diskDirectory, string pidPath, IReadOnlyList<FileStream> locks)
    {
        // A range far above those that people and containers use.
        _uidBase = uidBase > 0 ? uidBase : 0x5000_0000 + ((int)(BitConverter.ToUInt32(SHA256.HashData(Encoding.ASCII.GetBytes(id))) % 8192) * 16384);
        _pidPath = pidPath;
        Id = id;
        RunDirectory = runDirectory;
        DiskDirectory = diskDirectory;
        _locks = locks;
    }

    /// <summary>The instance id, <c>^[a-z0-9]{5}$</c>.</summary>
    public string Id { get; }

    /// <summary>Directory of the microVMs' records and sockets.</summary>
    public string RunDirectory { get; }

    /// <summary>Directory of the microVMs' disks.</summary>
    public string DiskDirectory { get; }

    /// <summary>Name of the nftables table.</summary>
    public string TableName => $"pandora_{Id}";

    /// <summary>Name of the parent cgroup.</summary>
    public string CgroupName => $"pandora-{Id}";

    /// <summary>What every interface of the host that belongs to this instance begins with.</summary>
    public string InterfacePrefix => $"pnd{Id}v";

    /// <summary>What every network namespace of this instance begins with.</summary>
    public string NamespacePrefix => $"pnd-{Id}-";

    /// <summary>The user and group id of the VMM in a slot: no two VMMs that run share one.</summary>
    public int UidOf(int slot) => _uidBase + slot;

    /// <summary>What was not as it should be and was mended, in sentences for the log.</summary>
    public IReadOnlyList<string> Mended { get; private init; } = [];

    /// <summary>Locks a data directory and the names that its id stands for on this host, making it and the instance's own directories
    /// where they are missing.</summary>
    /// <exception cref="StartupException">Another server has it, or it cannot be written to, or is not the server's alone.</exception>
    public static Instance Open(EngineOptions options)
    {
        var lockPath = Path.Combine(options.DataDir, "lock");
        var mended = new List<string>();
        var locks = new List<FileStream>();
        try
        {
            PrivateDirectory.Ensure(options.DataDir, mended.Add);
            locks.Add(LockFile.TryOpen(lockPath) ??
                throw new StartupException($"another Pandora server (pid {ReadOwner(options.DataDir)}) uses the data directory {options.DataDir}: './pandora down' ends it, or set PANDORA_DATA_DIR to another directory"));
            RemoveRuntimeFiles(options.DataDir);
            File.WriteAllText(PidPath(options.DataDir), $"{Environment.ProcessId}\n{ProcessHandle.StartTimeOf(Environment.ProcessId)}\n");
            var id = ReadOrMakeId(Path.Combine(options.DataDir, "instance"));
            // A copied data directory has the original's id and its own lock: namespaces, interfaces, the table and cgroups of that name
            // are one server's all the same.
            PrivateDirectory.Ensure(LockDirectory, mended.Add);
            locks.Add(LockFile.TryOpen(Path.Combine(LockDirectory, id)) ??
                throw new StartupException($"another server runs as instance {id} on this host, so the data directory {options.DataDir} is a copy of that one's: remove its file 'instance', and the start makes it one of its own"));
            PrivateDirectory.Ensure(options.RunDir, mended.Add);
            if (Directory.Exists(options.TemplatePath))
            {
                PrivateDirectory.EnsureReadable(options.TemplatePath, mended.Add);
            }

            var instance = new Instance(id, options.UidBase, Path.Combine(options.RunDir, id), Path.Combine(options.DataDir, "disks"),
                PidPath(options.DataDir), locks) { Mended = mended };
            PrivateDirectory.Ensure(instance.RunDirectory, mended.Add);
            RemoveOldLock(Path.Combine(instance.RunDirectory, "lock"), id);
            PrivateDirectory.Ensure(instance.DiskDirectory, mended.Add);
            return instance;
        }
        catch (Exception e)
        {
            // While they are held. The data directory's own stays, as it was.
            locks.Skip(1).ToList().ForEach(l => File.Delete(l.Name));
            locks.ForEach(l => l.Dispose());
            throw e is IOException or UnauthorizedAccessException
                ? new StartupException($"a directory of Pandora's cannot be written to ({e.Message}): PANDORA_DATA_DIR ({options.DataDir}) and PANDORA_RUN_DIR ({options.RunDir}) name directories that can be", e)
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

        if (Directory.Exists(RunDirectory) && !Directory.EnumerateFileSystemEntries(RunDirectory).Any())
        {
            Directory.Delete(RunDirectory);
        }

        File.Delete(_pidPath);
        // While it is locked: a process that opened it meanwhile sees that it is gone and makes another.
        File.Delete(Path.Combine(LockDirectory, Id));
        foreach (var held in _locks.Reverse())
        {
            held.Dispose();
        }
    }

    /// <summary>A new microVM's id: 24 characters of base 36, 124 bits.</summary>
    public static string NewMicroVmId() => RandomNumberGenerator.GetString("abcdefghijklmnopqrstuvwxyz0123456789", 24);

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

    private static string ReadOrMakeId(string path)
    {
        if (File.Exists(path) && File.ReadAllText(path).Trim() is { Length: 5 } id && id.All(char.IsAsciiLetterOrDigit))
        {
            return id;
        }

        id = RandomNumberGenerator.GetString("abcdefghijklmnopqrstuvwxyz0123456789", 5);
        File.WriteAllText(path, id + "\n");
        return id;
    }

    private static string ReadOwner(string dataDir) =>
        File.Exists(PidPath(dataDir)) && File.ReadLines(PidPath(dataDir)).FirstOrDefault() is { Length: > 0 } pid ? pid : "unknown";

    // Beside the lock, because .NET does not let a locked file be read.
    private static string PidPath(string dataDir) => Path.Combine(dataDir, "server.pid");
}
