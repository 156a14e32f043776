using System.ComponentModel.DataAnnotations;
using Pandora.Vmm;

namespace Pandora.Engine;

/// <summary>What a slot's guest may reach.</summary>
public enum Egress
{
    /// <summary>Public addresses and DNS.</summary>
    Internet,

    /// <summary>Nothing.</summary>
    None,
}

/// <summary>What happens to sandboxes when their server stops.</summary>
public enum OnStop
{
    /// <summary>They end, and nothing of them remains on the host.</summary>
    End,

    /// <summary>They live on, and the next server adopts them.</summary>
    Keep,
}

/// <summary>How the pool gets its microVMs.</summary>
public enum PoolStart
{
    /// <summary>Each is restored from a snapshot of a warmed microVM, where the VMM can; booted until a snapshot exists.</summary>
    Snapshot,

    /// <summary>Each boots from the kernel.</summary>
    Boot,
}

/// <summary>
/// Settings of one node's engine. Each setting is the environment variable <c>PANDORA_</c> + its name in upper snake case, or a member of
/// <c>Pandora</c> in <c>/etc/pandora/appsettings.json</c>.
/// </summary>
public sealed class EngineOptions
{
    /// <summary>Directory for the templates, keys and disks of this instance. One server at a time uses it.</summary>
    [Required]
    public string DataDir { get; set; } = "/var/lib/pandora";

    /// <summary>Directory for records and sockets, on a tmpfs; nothing in it outlives the host.</summary>
    [Required]
    public string RunDir { get; set; } = "/run/pandora";

    /// <summary>Directory of the templates. Default: <c>templates</c> in the data directory.</summary>
    public string? TemplateDir { get; set; }

    /// <summary>MicroVMs of the default template to keep warm: 0 to 256. With 0 each claim waits for a boot.</summary>
    [Range(0, 256)]
    public int PoolSize { get; set; } = 4;

    /// <summary>
    /// Warm microVMs of other templates, as <c>name=count,name=count</c>. A microVM of a template that is not named boots when a client
    /// asks for it.
    /// </summary>
    public string PoolSizes { get; set; } = "";

    /// <summary>
    /// <c>snapshot</c> (microVMs are restored from a snapshot of a warmed one, several times faster; booted where the VMM cannot) or
    /// <c>boot</c>.
    /// </summary>
    public PoolStart PoolStart { get; set; } = PoolStart.Snapshot;

    /// <summary>Most sandboxes that may exist at once: 1 to 4096.</summary>
    [Range(1, 4096)]
    public int MaxSandboxes { get; set; } = 64;

    /// <summary>
    /// MiB of the host's memory that microVMs do not get, 0 to 16,000,000: for the server, the host's other programs and its caches.
    /// </summary>
    [Range(0, 16_000_000)]
    public int MemoryReserve { get; set; } = 1024;

    /// <summary>
    /// How many times the rest of the host's memory is given to microVMs, 0.1 to 100. 1: each can use all that it was promised. Above 1
    /// more sandboxes fit, and the kernel kills some when they use it.
    /// </summary>
    [Range(0.1, 100.0)]
    public double MemoryOvercommit { get; set; } = 1;

    /// <summary>How many virtual CPUs each processor of the host stands for, 0.1 to 1,000. They share its time.</summary>
    [Range(0.1, 1000.0)]
    public double CpuOvercommit { get; set; } = 32;

    /// <summary>Most commands that may run in one sandbox at once: 1 to 512.</summary>
    [Range(1, 512)]
    public int MaxExecs { get; set; } = 160;

    /// <summary>
    /// How commands reach a guest: <c>agent</c> (by a device, so that the guest's network does not matter; by SSH where the guest has no
    /// such device) or <c>ssh</c> (by the SSH server of the guest).
    /// </summary>
    public ExecWay Exec { get; set; } = ExecWay.Agent;

    /// <summary>Seconds of idleness after which a sandbox is ended unless it asks otherwise.</summary>
    [Range(10.0, 31_536_000.0)]
    public double IdleTimeout { get; set; } = 60;

    /// <summary>
    /// Most seconds of idleness that a sandbox may ask for: 10 to 31,536,000; 0: as long as a sandbox may live, 604,800 (7 days) where that
    /// is for ever.
    /// </summary>
    [Range(0.0, 31_536_000.0)]
    public double MaxIdleTimeout { get; set; }

    /// <summary>Most seconds that a sandbox may live however busy it is: 60 to 31,536,000; 0: for ever.</summary>
    [Range(0.0, 31_536_000.0)]
    public double MaxLifetime { get; set; } = 86400;

    /// <summary>
    /// Most clients that may wait for a microVM of one template: 0 to 100,000. A further client is answered with 429 at once; if its
    /// project has fewer that wait than another, the newest client of the project with the most is answered so instead.
    /// </summary>
    [Range(0, 100_000)]
    public int MaxWaiting { get; set; } = 256;

    /// <summary>Seconds that a client waits for a microVM before it is answered with 503.</summary>
    [Range(1.0, 600.0)]
    public double AcquireTimeout { get; set; } = 90;

    /// <summary>Seconds within which a guest must be reachable; after them its boot has failed.</summary>
    [Range(5.0, 600.0)]
    public double BootTimeout { get; set; } = 60;

    /// <summary>MicroVMs that boot at the same time. 0: as many as the host has processors.</summary>
    [Range(0, 64)]
    public int BootParallelism { get; set; }

    /// <summary>
    /// IPv4 range from which each slot takes a /30. Default: the first of 10.200.0.0/16 to 10.219.0.0/16 that no host route overlaps.
    /// </summary>
    public string? Network { get; set; }

    /// <summary>
    /// The most that a sandbox may reach, and the default for a sandbox that does not ask for less: <c>internet</c> or <c>none</c>. With
    /// <c>none</c> a claim that asks for <c>internet</c> is refused.
    /// </summary>
    public Egress Egress { get; set; } = Egress.Internet;

    /// <summary>
    /// What a sandbox may reach when its request does not say: <c>none</c> where <see cref="Egress"/> lets it ask for <c>internet</c>.
    /// Default: the value of <see cref="Egress"/>.
    /// </summary>
    public Egress? EgressDefault { get; set; }

    /// <summary>
    /// IPv4 ranges that guests may reach although they are private, special or the host's own networks, such as a package proxy's:
    /// <c>10.1.2.3/32,10.9.0.0/24</c>. The host itself and other sandboxes stay refused.
    /// </summary>
    public string EgressAllow { get; set; } = "";

    /// <summary>
    /// IPv4 ranges that guests may not reach, in addition to those that are always refused: <c>20.0.0.0/8</c>. Guests may still reach the
    /// ranges in <see cref="EgressAllow"/>.
    /// </summary>
    public string EgressDeny { get; set; } = "";

    /// <summary>File from which the host's resolvers are read.</summary>
    [Required]
    public string ResolvConf { get; set; } = "/etc/resolv.conf";

    /// <summary>
    /// Path of the guest agent's program, with which templates are built. Default: the program that <c>./pandora template build</c> made in
    /// the data directory.
    /// </summary>
    public string? Agent { get; set; }

    /// <summary>
    /// MiB that stay free on the file system of the microVMs' disks, 0 to 1,000,000: with less no microVM is handed out, and a microVM that
    /// waits for room does not continue.
    /// </summary>
    [Range(0, 1_000_000)]
    public int DiskReserve { get; set; } = 512;

    /// <summary>
    /// Per cent of the bytes by which the disks of all microVMs may still grow that must also be free before another microVM is handed out,
    /// 0 to 100. 100: there is room for everything that they can write.
    /// </summary>
    [Range(0, 100)]
    public int DiskShare { get; set; } = 10;

    /// <summary>Seconds that a sandbox may wait for room on the host's disk before it is ended, 1 to 86,400.</summary>
    [Range(1.0, 86400.0)]
    public double DiskWait { get; set; } = 600;

    /// <summary>Most MiB a second that a microVM may read and write on each of its disks, 0 to 100,000; 0: no bound.</summary>
    [Range(0, 100_000)]
    public int DiskBandwidth { get; set; }

    /// <summary>Most operations a second that a microVM may make on each of its disks, 0 to 10,000,000; 0: no bound.</summary>
    [Range(0, 10_000_000)]
    public int DiskOperations { get; set; }

    /// <summary>
    /// Most MiB a second that a microVM may send, and as many receive, 0 to 100,000; 0: no bound. Not every VMM bounds it.
    /// </summary>
    [Range(0, 100_000)]
    public int NetworkBandwidth { get; set; }

    /// <summary>
    /// What a stop by SIGTERM, such as <c>systemctl stop</c>, does with sandboxes: <c>end</c> them, or <c>keep</c> them alive for the next
    /// server. <c>./pandora down</c> and Ctrl-C always end them.
    /// </summary>
    public OnStop OnStop { get; set; } = OnStop.End;

    /// <summary>
    /// First of the user ids that VMMs run as, one for each slot. 0: each instance has a separate range, above 1,342,177,280.
    /// </summary>
    [Range(0, 2_000_000_000)]
    public int UidBase { get; set; }

    /// <summary>
    /// Directory of the files that a VMM needs in addition to the run directory of a machine, such as a jail. It is on the file system of
    /// the templates and disks, so that files can be linked into it.
    /// </summary>
    public string MachineDir => Path.Combine(DataDir, "jail");

    /// <summary>Directory of the snapshots of warmed microVMs. The server makes a missing snapshot again.</summary>
    public string SnapshotDir => Path.Combine(DataDir, "snapshots");

    /// <summary>The guest agent's program.</summary>
    public string AgentPath => Agent ?? Path.Combine(DataDir, "agent", "pandora-agent");

    /// <summary>Bounds of each microVM's devices.</summary>
    public DeviceLimits DeviceLimits => new(DiskBandwidth * 1024L * 1024, DiskOperations, NetworkBandwidth * 1024L * 1024);

    /// <summary>What a sandbox may reach when its request does not say.</summary>
    public Egress DefaultEgress => EgressDefault ?? Egress;

    /// <summary>
    /// Most network slots that can be in use at once: sandboxes, warm microVMs, boots, and those prepared before they are needed.
    /// </summary>
    public int MostSlots => MaxSandboxes + PooledTemplates.Sum(PoolSizeFor) + MostBoots + SlotsAhead;

    /// <summary>Name of the template of a sandbox whose request names none.</summary>
    public const string DefaultTemplate = "default";

    /// <summary>Network slots prepared before they are needed.</summary>
    public const int SlotsAhead = 2;

    /// <summary>MicroVMs that boot at the same time.</summary>
    public int MostBoots => BootParallelism > 0 ? BootParallelism : Environment.ProcessorCount;

    /// <summary>The templates' directory.</summary>
    public string TemplatePath => TemplateDir ?? Path.Combine(DataDir, "templates");

    /// <summary>The templates for which a warm pool exists from the start.</summary>
    public IEnumerable<string> PooledTemplates => ParsePoolSizes().Keys.Prepend(DefaultTemplate).Distinct();

    /// <summary>How many microVMs of a template to keep warm.</summary>
    public int PoolSizeFor(string template) => template == DefaultTemplate
        ? PoolSize
        : ParsePoolSizes().GetValueOrDefault(template);

    /// <summary>Reads <see cref="PoolSizes"/>.</summary>
    /// <exception cref="StartupException">It is not <c>name=count,…</c>.</exception>
    public IReadOnlyDictionary<string, int> ParsePoolSizes()
    {
        var sizes = new Dictionary<string, int>();
        foreach (var entry in PoolSizes.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            var parts = entry.Split('=');
            if (parts.Length != 2 || !int.TryParse(parts[1], out var count) || count is < 0 or > 256)
            {
                throw new StartupException($"PANDORA_POOL_SIZES: '{entry}' is not a template's name, '=', and a count from 0 to 256");
            }

            sizes[parts[0]] = count;
        }

        return sizes;
    }

    // Of what lives for ever; and the longest that the clock's timers take, which is 49 days.
    private const double OfEndless = 7 * 24 * 3600, OfTimers = 48 * 24 * 3600;

    /// <summary>Most seconds that a process may be given: the longest lifetime, and 48 days at most.</summary>
    public double LongestTimeout => Math.Min(MaxLifetime > 0 ? MaxLifetime : OfEndless, OfTimers);

    /// <summary>Most seconds of idleness that a sandbox may ask for.</summary>
    public double LongestIdleTimeout => MaxIdleTimeout > 0
        ? MaxIdleTimeout
        : Math.Max(IdleTimeout, MaxLifetime > 0 ? MaxLifetime : OfEndless);

    /// <summary>Checks that no settings contradict each other.</summary>
    /// <exception cref="StartupException">Two settings do; the message names them and says what to do.</exception>
    public void Check()
    {
        if (IdleTimeout > LongestIdleTimeout)
        {
            throw new StartupException(
                $"PANDORA_IDLE_TIMEOUT ({IdleTimeout:0.#} s) is over PANDORA_MAX_IDLE_TIMEOUT ({MaxIdleTimeout:0.#} s): raise the "
                    + "second or lower the first");
        }

        if (MaxIdleTimeout is > 0 and < 10)
        {
            throw new StartupException(
                $"PANDORA_MAX_IDLE_TIMEOUT: {MaxIdleTimeout:0.#} s is too short; it is at least 10 s, or 0 (as long as a sandbox "
                    + "may live)");
        }

        if (EgressDefault == Egress.Internet && Egress == Egress.None)
        {
            throw new StartupException(
                "PANDORA_EGRESS_DEFAULT=internet is more than PANDORA_EGRESS=none allows: PANDORA_EGRESS is the most that any "
                    + "sandbox may reach");
        }

        if (MaxLifetime is > 0 and < 60)
        {
            throw new StartupException($"PANDORA_MAX_LIFETIME: {MaxLifetime:0.#} s is too short; it is 0 (for ever) or at least 60 s");
        }

        ParsePoolSizes();
    }
}
