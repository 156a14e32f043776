using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>State of a server.</summary>
public sealed record ServerHealth
{
    /// <summary>
    /// <c>ok</c>; <c>recovering</c> while it adopts an earlier server's sandboxes; <c>not_protected</c> while the rules that isolate guests
    /// are incomplete, when it creates no sandbox.
    /// </summary>
    public string Status { get; init; } = "ok";

    /// <summary>Version of the server.</summary>
    public string Version { get; init; } = "";

    /// <summary>Number of microVMs that the default template's pool keeps warm.</summary>
    public int PoolSize { get; init; }

    /// <summary>Number of microVMs that are warm now, in all pools.</summary>
    public int WarmMicroVms { get; init; }

    /// <summary>Number of sandboxes now; for a key with the role <c>user</c> those of its project.</summary>
    public int ActiveSandboxes { get; init; }

    /// <summary>Most sandboxes that may exist at once.</summary>
    public int MaxSandboxes { get; init; }

    /// <summary>Id of the instance, which is part of every host resource's name.</summary>
    public string Instance { get; init; } = "";

    /// <summary>The VMM, its version and accelerator.</summary>
    public string Vmm { get; init; } = "";

    /// <summary>How well the VMM isolates guests, as a text for people.</summary>
    public string Isolation { get; init; } = "";

    /// <summary>Whether hardware isolates guests; false when they are emulated, which is no security boundary; null when an older server
    /// does not say.</summary>
    public bool? HasHardwareIsolation { get; init; }

    /// <summary>What the operator should know; empty when all is well.</summary>
    public IReadOnlyList<string> Notes { get; init; } = [];

    /// <summary>Longest time that a command may be given; zero when an older server does not say.</summary>
    public TimeSpan MaxTimeout { get; init; }

    /// <summary>Longest idle time that a sandbox may ask for; zero when an older server does not say.</summary>
    public TimeSpan MaxIdleTimeout { get; init; }

    /// <summary>
    /// What the server may give to sandboxes, and what they have; null for a key with the role <c>user</c>, and when an older server does
    /// not say.
    /// </summary>
    public ServerCapacity? Capacity { get; init; }

    /// <summary>Use and bounds of the project of this client's key; null when an older server does not say.</summary>
    public ProjectUsage? Project { get; init; }

    internal static ServerHealth From(Health health) => new()
    {
        Status = health.Status,
        Version = health.Version,
        PoolSize = health.PoolSize,
        WarmMicroVms = health.WarmVms,
        ActiveSandboxes = health.ActiveSandboxes,
        MaxSandboxes = health.MaxSandboxes,
        Instance = health.Instance,
        Vmm = health.Vmm,
        Isolation = health.Isolation,
        HasHardwareIsolation = health.HardwareIsolation,
        Notes = health.Notes,
        MaxTimeout = WireTime.Seconds(health.MaxTimeout),
        MaxIdleTimeout = WireTime.Seconds(health.MaxIdleTimeout),
        Capacity = health.Capacity is { } capacity ? ServerCapacity.From(capacity) : null,
        Project = health.Project is { } project ? ProjectUsage.From(project) : null,
    };
}
