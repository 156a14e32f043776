using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>A sandbox as the server showed it at one moment.</summary>
public sealed record SandboxDetails
{
    /// <summary>Its id.</summary>
    public string Id { get; init; } = "";

    /// <summary>
    /// <c>running</c>; <c>recovering</c> while a server that has just started adopts it; <c>degraded</c> while it waits for room on the
    /// host's disk, or once its disk has lost data. A later server may have more values.
    /// </summary>
    public string State { get; init; } = "running";

    /// <summary>Why the state is not <c>running</c>; null when it is.</summary>
    public string? StateReason { get; init; }

    /// <summary>Time since it was created.</summary>
    public TimeSpan Age { get; init; }

    /// <summary>Time since the last activity that worked; zero while a command runs.</summary>
    public TimeSpan Idle { get; init; }

    /// <summary>Idle time after which the server ends it.</summary>
    public TimeSpan IdleTimeout { get; init; }

    /// <summary>Number of commands that were started in it.</summary>
    public int ExecCount { get; init; }

    /// <summary>Template that it was started from.</summary>
    public string Template { get; init; } = "default";

    /// <summary>What it may reach: <c>internet</c> or <c>none</c>.</summary>
    public string Egress { get; init; } = "internet";

    /// <summary>Project that it is in. An older server has only <c>default</c>.</summary>
    public string Project { get; init; } = "default";

    /// <summary>Its memory in MiB; null when the server does not say.</summary>
    public int? MemoryMib { get; init; }

    /// <summary>Number of its virtual CPUs; null when the server does not say.</summary>
    public int? Vcpus { get; init; }

    /// <summary>Size of its disk in MiB; null when the server does not say.</summary>
    public int? DiskMib { get; init; }

    /// <summary>The pairs given at its creation.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; init; } = new Dictionary<string, string>();

    /// <summary>Number of its network slot on the host.</summary>
    public int SlotId { get; init; }

    /// <summary>Address by which the host reaches the guest.</summary>
    public string GuestAddress { get; init; } = "";

    internal static SandboxDetails From(SandboxInfo info) => new()
    {
        Id = info.SandboxId,
        State = info.State,
        StateReason = info.StateReason,
        Age = WireTime.Seconds(info.AgeSeconds),
        Idle = WireTime.Seconds(info.IdleSeconds),
        IdleTimeout = WireTime.Seconds(info.IdleTimeout),
        ExecCount = info.ExecCount,
        Template = info.Template,
        Egress = info.Egress,
        Project = info.Project,
        MemoryMib = info.MemoryMib,
        Vcpus = info.Vcpus,
        DiskMib = info.DiskMib,
        Metadata = info.Metadata ?? new Dictionary<string, string>(),
        SlotId = info.SlotId,
        GuestAddress = info.GuestIp,
    };
}
