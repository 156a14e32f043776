namespace Pandora.Linux;

/// <summary>Limits for one VMM process.</summary>
/// <param name="MemoryBytes">Most memory that it may use, in bytes.</param>
/// <param name="MaxProcesses">Most threads and processes that it may have.</param>
public sealed record CgroupLimits(long MemoryBytes, int MaxProcesses);

/// <summary>
/// The cgroups of an instance's VMMs: cgroup v2 if it has the controllers, else v1, else none. <see cref="Description"/> says which.
/// </summary>
/// <remarks>Kernel documentation: admin-guide/cgroup-v2.rst, cgroup-v1/{memory,pids}.rst.</remarks>
public sealed class CgroupTree
{
    private readonly IReadOnlyList<string> _parents; // one for v2, one per controller for v1
    private readonly bool _isV2;
    private readonly string _root;

    private CgroupTree(string root, IReadOnlyList<string> parents, bool isV2, string description)
    {
        _root = root;
        _parents = parents;
        _isV2 = isV2;
        Description = description;
    }

    /// <summary>Directory of a host's cgroup hierarchies.</summary>
    public const string DefaultRoot = "/sys/fs/cgroup";

    /// <summary>Describes what limits the VMMs, for the log.</summary>
    public string Description { get; }

    /// <summary>False when nothing can be limited on this host.</summary>
    public bool CanLimit => _parents.Count > 0;

    /// <summary>
    /// Makes the instance's cgroup. It has half the CPU weight of an ordinary service, so that boots never take all CPU time from the
    /// server.
    /// </summary>
    /// <param name="name">Name of the cgroup, which contains the instance id.</param>
    /// <param name="root">Directory of the cgroup hierarchies.</param>
    public static CgroupTree Create(string name, string root = DefaultRoot)
    {
        var v2Controllers = ReadWords($"{root}/cgroup.controllers");
        string[] wanted = ["cpu", "memory", "pids"];
        if (wanted.All(v2Controllers.Contains))
        {
            try
            {
                Write($"{root}/cgroup.subtree_control", "+cpu +memory +pids");
                var parent = $"{root}/{name}";
                Directory.CreateDirectory(parent);
                Write($"{parent}/cgroup.subtree_control", "+cpu +memory +pids");
                Write($"{parent}/cpu.weight", "50");
                return new CgroupTree(root, [parent], isV2: true, "cgroup v2: memory, pids and CPU weight");
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                return new CgroupTree(root, [], isV2: true, $"no limits: cgroup v2 could not be set up ({e.Message})");
            }
        }

        try
        {
            var parents = wanted
                .Append("cpuacct")
                .Where(c => File.Exists($"{root}/{c}/cgroup.procs"))
                .Select(c => $"{root}/{c}/{name}")
                .ToList();
            foreach (var parent in parents)
            {
                Directory.CreateDirectory(parent);
            }

            if (parents.FirstOrDefault(p => p.StartsWith($"{root}/cpu/", StringComparison.Ordinal)) is { } cpu)
            {
                Write($"{cpu}/cpu.shares", "512");
            }

            return parents.Count == 0
                ? new CgroupTree(root, [], isV2: false, "no limits: this host has no cgroup controllers that can be used")
                : new CgroupTree(root, parents, isV2: false, $"cgroup v1: {string.Join(", ", parents.Select(ControllerOf))}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new CgroupTree(root, [], isV2: false, $"no limits: cgroup v1 could not be set up ({e.Message})");
        }
    }

    /// <summary>Limits the memory of all machines together.</summary>
    /// <param name="bytes">Most memory, in bytes.</param>
    /// <returns>Why it could not be limited; null when it was.</returns>
    public string? LimitAll(long bytes)
    {
        if (_parents.FirstOrDefault(p => _isV2 || p.StartsWith($"{_root}/memory/", StringComparison.Ordinal)) is not { } parent)
        {
            return "this host has no memory controller that can be used";
        }

        try
        {
            Write($"{parent}/{(_isV2 ? "memory.max" : "memory.limit_in_bytes")}", bytes.ToString());
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Machines of an earlier server may use more already.
            return e.Message;
        }
    }

    /// <summary>
    /// Returns what could limit VMMs on this host, and makes nothing: the version, such as <c>version 2</c>, then the controllers. Empty
    /// when nothing can be limited.
    /// </summary>
    public static IReadOnlyList<string> FindControllers()
    {
        const string root = DefaultRoot;
        string[] wanted = ["cpu", "memory", "pids"];
        var v2 = ReadWords($"{root}/cgroup.controllers");
        if (wanted.All(v2.Contains))
        {
            return ["version 2", .. wanted];
        }

        var v1 = wanted.Where(c => File.Exists($"{root}/{c}/cgroup.procs")).ToList();
        return v1.Count > 0 ? ["version 1", .. v1] : [];
    }

    /// <summary>
    /// Reads what the VMMs have used: CPU time in seconds of all VMMs that ever ran, and memory in bytes of those that run, including the
    /// page cache of their disks. Null if the host does not count them.
    /// </summary>
    public (double CpuSeconds, long MemoryBytes)? ReadUsage()
    {
        try
        {
            if (_parents.Count == 0)
            {
                return null;
            }

            if (!_isV2)
            {
                var nanoseconds = long.Parse(File.ReadAllText($"{ParentOf("cpuacct")}/cpuacct.usage"));
                return (nanoseconds / 1e9, long.Parse(File.ReadAllText($"{ParentOf("memory")}/memory.usage_in_bytes")));
            }

            var seconds = ReadWords($"{_parents[0]}/cpu.stat") is ["usage_usec", var micros, ..] ? long.Parse(micros) / 1e6 : 0;
            return (seconds, long.Parse(File.ReadAllText($"{_parents[0]}/memory.current")));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            return null;
        }
    }

    /// <summary>Returns the paths that <see cref="Add"/> would make for a machine, so that they can be recorded first.</summary>
    public IReadOnlyList<string> PathsFor(string id) => [.. _parents.Select(p => $"{p}/{id}")];

    /// <summary>Makes the cgroups of one machine and sets its limits.</summary>
    public void Add(string id, CgroupLimits limits)
    {
        foreach (var path in PathsFor(id))
        {
            Directory.CreateDirectory(path);
            if (_isV2 || path.StartsWith($"{_root}/memory/", StringComparison.Ordinal))
            {
                Write($"{path}/{(_isV2 ? "memory.max" : "memory.limit_in_bytes")}", limits.MemoryBytes.ToString());
            }

            if (_isV2 || path.StartsWith($"{_root}/pids/", StringComparison.Ordinal))
            {
                Write($"{path}/pids.max", limits.MaxProcesses.ToString());
            }
        }
    }

    /// <summary>
    /// Removes an empty cgroup and the cgroups below it. The kernel may need a moment after the last process has ended, so this tries for a
    /// second.
    /// </summary>
    /// <exception cref="IOException">A process is still in it.</exception>
    public static async Task RemoveAsync(string path, TimeProvider time)
    {
        for (var attempt = 0; Directory.Exists(path); attempt++)
        {
            try
            {
                foreach (var child in Directory.GetDirectories(path))
                {
                    Directory.Delete(child);
                }

                Directory.Delete(path);
            }
            catch (IOException) when (attempt < 100)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(10), time);
            }
        }
    }

    /// <summary>Lists the processes in a cgroup and in the cgroups below it.</summary>
    public static IReadOnlyList<int> ProcessesIn(string path) =>
        !Directory.Exists(path)
            ? []
            :
            [
                .. Directory
                    .EnumerateFiles(path, "cgroup.procs", SearchOption.AllDirectories)
                    .SelectMany(ReadWords)
                    .Select(int.Parse)
                    .Distinct(),
            ];

    private static string? ControllerOf(string parent) => Path.GetFileName(Path.GetDirectoryName(parent));

    private string ParentOf(string controller) => $"{_root}/{controller}/{Path.GetFileName(_parents[0])}";

    private static string[] ReadWords(string path)
    {
        try
        {
            return File.ReadAllText(path).Split([' ', '\n'], StringSplitOptions.RemoveEmptyEntries);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    private static void Write(string path, string value) => File.WriteAllText(path, value);
}
