using Pandora.Engine.Projects;

namespace Pandora.Engine.Admission;

/// <summary>What a project has: its sandboxes, and its claims that wait for a microVM.</summary>
/// <param name="Sandboxes">How many.</param>
/// <param name="Vcpus">Their virtual CPUs together.</param>
/// <param name="MemoryMib">The memory of their guests together, in MiB.</param>
public sealed record ProjectUse(int Sandboxes, int Vcpus, long MemoryMib)
{
    internal static readonly ProjectUse None = new(0, 0, 0);

    internal ProjectUse With(MicroVmSize size, int sign) =>
        new(Sandboxes + sign, Vcpus + (sign * size.Vcpus), MemoryMib + (sign * size.MemoryMib));
}

/// <summary>
/// Admits claims: within the server's count of sandboxes, within the host's budget, and within the quotas of the project. A claim counts
/// against its project before it waits for a microVM, so that no microVM starts that its project may not have. It counts against the server
/// when it has its microVM: a claim that waits is no sandbox yet, and the pool bounds how many wait. Each step is atomic, so that
/// simultaneous claims cannot pass a bound together.
/// </summary>
/// <param name="most">Most sandboxes of the server.</param>
/// <param name="budget">The host's budget.</param>
/// <param name="projects">Finds projects with their quotas.</param>
internal sealed class Admissions(int most, HostBudget budget, FindProject projects)
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, ProjectUse> _uses = [];
    private int _count, _vcpus;
    private long _memory;

    /// <summary>The number of sandboxes.</summary>
    public int Count => Volatile.Read(ref _count);

    /// <summary>What the sandboxes have of the host's budget.</summary>
    public (long MemoryMib, int Vcpus) Used
    {
        get
        {
            lock (_lock)
            {
                return (_memory, _vcpus);
            }
        }
    }

    /// <summary>What a project has.</summary>
    public ProjectUse UseOf(string project)
    {
        lock (_lock)
        {
            return _uses.GetValueOrDefault(project, ProjectUse.None);
        }
    }

    /// <summary>What each project has that has anything.</summary>
    public IReadOnlyDictionary<string, ProjectUse> Uses
    {
        get
        {
            lock (_lock)
            {
                return new Dictionary<string, ProjectUse>(_uses);
            }
        }
    }

    /// <summary>Counts a claim against its project, before it waits. Refuses it when the server or the host has no room either.</summary>
    /// <exception cref="PandoraException">A bound is reached; the message says what is used and what is allowed.</exception>
    public void Reserve(string project, MicroVmSize size)
    {
        var bounds = projects(project);
        lock (_lock)
        {
            var use = _uses.GetValueOrDefault(project, ProjectUse.None);
            Bound[] all =
            [
                new(bounds.MaxSandboxes, use.Sandboxes, 1, "sandboxes", null),
                new(bounds.MaxVcpus, use.Vcpus, size.Vcpus, "virtual CPUs", "vcpus"),
                new(bounds.MaxMemoryMib, use.MemoryMib, size.MemoryMib, "MiB of memory", "memory_mib"),
            ];
            // First what no wait helps against.
            MustBeAllowed(all, project);
            MustHaveRoom(size);
            MustBeFree(all, project);
            _uses[project] = use.With(size, 1);
        }
    }

    /// <summary>Counts a reserved claim against the server, when it has its microVM.</summary>
    /// <exception cref="PandoraException">The server or the host has no more room.</exception>
    public void Admit(MicroVmSize size)
    {
        lock (_lock)
        {
            MustHaveRoom(size);
            Add(size, 1);
        }
    }

    /// <summary>Counts a sandbox that exists already, even over the bounds.</summary>
    public void AddExisting(string project, MicroVmSize size)
    {
        lock (_lock)
        {
            _uses[project] = _uses.GetValueOrDefault(project, ProjectUse.None).With(size, 1);
            Add(size, 1);
        }
    }

    /// <summary>Counts a claim of a project in its real size, when that is not the one that was reserved.</summary>
    public void Resize(string project, MicroVmSize reserved, MicroVmSize size)
    {
        if (reserved != size)
        {
            lock (_lock)
            {
                _uses[project] = _uses.GetValueOrDefault(project, ProjectUse.None).With(reserved, -1).With(size, 1);
            }
        }
    }

    /// <summary>Undoes <see cref="Reserve"/>.</summary>
    public void Release(string project, MicroVmSize size)
    {
        lock (_lock)
        {
            var use = _uses.GetValueOrDefault(project, ProjectUse.None).With(size, -1);
            if (use.Sandboxes > 0)
            {
                _uses[project] = use;
            }
            else
            {
                _uses.Remove(project);
            }
        }
    }

    /// <summary>Undoes <see cref="Admit"/>.</summary>
    public void Dismiss(MicroVmSize size)
    {
        lock (_lock)
        {
            Add(size, -1);
        }
    }

    private void Add(MicroVmSize size, int sign)
    {
        Volatile.Write(ref _count, _count + sign);
        _vcpus += sign * size.Vcpus;
        _memory += sign * budget.MemoryOf(size);
    }

    private void MustHaveRoom(MicroVmSize size)
    {
        if (_count >= most)
        {
            throw new PandoraException(
                PandoraError.SandboxLimit,
                $"{_count} sandboxes exist, and at most {most} may: delete one, or try again when one has ended")
            {
                Hint = "PANDORA_MAX_SANDBOXES sets how many may exist",
            };
        }

        var memory = budget.MemoryOf(size);
        if (memory > budget.MemoryMib || size.Vcpus > budget.Vcpus)
        {
            // To wait does not help.
            throw new PandoraException(
                PandoraError.AboveCeiling,
                $"this sandbox needs {memory} MiB of memory and {size.Vcpus} virtual CPUs, and this server gives out "
                    + $"{budget.MemoryMib} MiB and {budget.Vcpus} in all",
                memory > budget.MemoryMib ? "memory_mib" : "vcpus");
        }

        if (_memory + memory > budget.MemoryMib)
        {
            throw new PandoraException(
                PandoraError.HostFull,
                $"the sandboxes of this server have {_memory} of the {budget.MemoryMib} MiB of memory that it gives out, and this one "
                    + $"needs {memory}: delete sandboxes, or try again when some have ended")
            {
                Hint = "PANDORA_MEMORY_RESERVE and PANDORA_MEMORY_OVERCOMMIT set how much memory microVMs get",
            };
        }

        if (_vcpus + size.Vcpus > budget.Vcpus)
        {
            throw new PandoraException(
                PandoraError.HostFull,
                $"the sandboxes of this server have {_vcpus} of the {budget.Vcpus} virtual CPUs that it gives out, and this one needs "
                    + $"{size.Vcpus}: delete sandboxes, or try again when some have ended")
            {
                Hint = "PANDORA_CPU_OVERCOMMIT sets how many virtual CPUs a processor of the host stands for",
            };
        }
    }

    private static void MustBeAllowed(IEnumerable<Bound> bounds, string project)
    {
        if (bounds.FirstOrDefault(b => b.Asked > b.Most) is { Most: { } most } bound)
        {
            throw new PandoraException(
                PandoraError.AboveCeiling,
                $"project '{project}' may have {most} {bound.What} in all, and this sandbox asks for {bound.Asked}", bound.Field);
        }
    }

    private static void MustBeFree(IEnumerable<Bound> bounds, string project)
    {
        if (bounds.FirstOrDefault(b => b.Used + b.Asked > b.Most) is { Most: { } most } bound)
        {
            throw new PandoraException(
                PandoraError.QuotaExceeded,
                $"project '{project}' uses {bound.Used} of its {most} {bound.What}, and this sandbox asks for {bound.Asked}: delete one, "
                    + "or try again when one has ended");
        }
    }

    /// <summary>A bound of a project; <paramref name="Most"/> is null for none.</summary>
    private sealed record Bound(long? Most, long Used, long Asked, string What, string? Field);
}
