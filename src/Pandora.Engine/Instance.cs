using System.Security.Cryptography;
using System.Text;

namespace Pandora.Engine;

/// <summary>
/// One data directory's server. Its id, five characters of base 36, is in the name of every host resource, so that two servers, or a test run beside one, never meet.
/// Holding this object holds the lock on the data directory (flock(2)), which the kernel drops when the process ends however it ends.
/// </summary>
public sealed class Instance : IDisposable
{
    private readonly FileStream _lock;
    private readonly string _pidPath;
    private readonly int _uidBase;
    private FileStream? _runLock;

    private Instance(string id, int uidBase, string runDirectory, string diskDirectory, string pidPath, FileStream @lock)
    {
        // A range far above those that people and containers use.
        _uidBase = uidBase > 0 ? uidBase : 0x5000_0000 + ((int)(BitConverter.ToUInt32(SHA256.HashData(Encoding.ASCII.GetBytes(id))) % 8192) * 16384);
        _pidPath = pidPath;
        Id = id;
        RunDirectory = runDirectory;
        DiskDirectory = diskDirectory;
        _lock = @lock;
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

    /// <summary>Locks a data directory, making it and the instance's own directories where they are missing.</summary>
    /// <exception cref="StartupException">Another server has it, or it cannot be written to.</exception>
    public static Instance Open(EngineOptions options)
    {
        var lockPath = Path.Combine(options.DataDir, "lock");
        FileStream @lock;
        try
        {
            MakePrivate(options.DataDir);
            @lock = new FileStream(lockPath, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException) when (File.Exists(lockPath))
        {
            throw new StartupException($"another Pandora server (pid {ReadOwner(options.DataDir)}) uses the data directory {options.DataDir}: './pandora down' ends it, or set PANDORA_DATA_DIR to another directory");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new StartupException($"the data directory {options.DataDir} cannot be written to ({e.Message}): set PANDORA_DATA_DIR to a directory on a disk that can", e);
        }

        try
        {
            File.WriteAllText(PidPath(options.DataDir), $"{Environment.ProcessId}\n{Pandora.Vmm.Linux.ProcessHandle.StartTimeOf(Environment.ProcessId)}\n");
            var id = ReadOrMakeId(Path.Combine(options.DataDir, "instance"));
            var instance = new Instance(id, options.UidBase, Path.Combine(options.RunDir, id), Path.Combine(options.DataDir, "disks"), PidPath(options.DataDir), @lock);
            MakePrivate(options.RunDir);
            MakePrivate(instance.RunDirectory);
            instance.LockRunDirectory();
            MakePrivate(instance.DiskDirectory);
            return instance;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            @lock.Dispose();
            throw new StartupException($"a directory of Pandora's cannot be written to: {e.Message}", e);
        }
    }

    /// <summary>Lets the data directory go and removes the now empty run directory.</summary>
    public void Dispose()
    {
        if (!_lock.CanWrite)
        {
            return;
        }

        _runLock?.Dispose();
        File.Delete(RunLockPath);
        if (Directory.Exists(RunDirectory) && !Directory.EnumerateFileSystemEntries(RunDirectory).Any())
        {
            Directory.Delete(RunDirectory);
        }

        File.Delete(_pidPath);
        _lock.Dispose();
    }

    /// <summary>A new microVM's id: 24 characters of base 36, 124 bits.</summary>
    public static string NewMicroVmId() => RandomNumberGenerator.GetString("abcdefghijklmnopqrstuvwxyz0123456789", 24);

    private string RunLockPath => Path.Combine(RunDirectory, "lock");

    // A copied data directory has the original's id, and its own lock: the records and names on the host are one server's all the same.
    private void LockRunDirectory()
    {
        try
        {
            _runLock = new FileStream(RunLockPath, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException) when (File.Exists(RunLockPath))
        {
            _lock.Dispose();
            throw new StartupException($"another server runs as instance {Id}, so this data directory is a copy of that one's: remove its file 'instance', and the start makes it one of its own");
        }
    }

    private static void MakePrivate(string path) =>
        Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);

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
