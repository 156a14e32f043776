namespace Pandora.Engine.Projects;

/// <summary>
/// A project: its sandboxes are separate from those of others, and its quotas and ceilings hold for all of its keys together. Null stands
/// for no bound besides the server's.
/// </summary>
/// <param name="Name">Name of the project, <c>^[a-z0-9][a-z0-9-]{0,62}$</c>.</param>
public sealed record Project(string Name)
{
    /// <summary>Name of the project of requests without a key, and of the sandboxes of an older Pandora.</summary>
    public const string DefaultName = "default";

    /// <summary>Quota: most sandboxes that it may have at once.</summary>
    public int? MaxSandboxes { get; init; }

    /// <summary>Quota: most virtual CPUs of its sandboxes together.</summary>
    public int? MaxVcpus { get; init; }

    /// <summary>Quota: most memory of its sandboxes together, in MiB.</summary>
    public int? MaxMemoryMib { get; init; }

    /// <summary>Ceiling: most seconds that one of its sandboxes may live.</summary>
    public double? MaxLifetime { get; init; }

    /// <summary>Ceiling: the most that its sandboxes may reach.</summary>
    public Egress? Egress { get; init; }

    /// <summary>Ceiling: the templates from which its sandboxes may start.</summary>
    public IReadOnlyList<string>? Templates { get; init; }

    /// <summary>Whether the audit contains the text of its commands.</summary>
    public bool AuditsCommands { get; init; }
}

/// <summary>Finds a project by name. A project that was removed, or never existed, has no bounds of its own.</summary>
public delegate Project FindProject(string name);
