using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>A project's use of a server, and its bounds. A bound that is null is the server's own.</summary>
public sealed record ProjectUsage
{
    /// <summary>Name of the project.</summary>
    public string Name { get; init; } = "default";

    /// <summary>Number of its sandboxes, and of its requests that wait for one.</summary>
    public int Sandboxes { get; init; }

    /// <summary>Number of the virtual CPUs of these together.</summary>
    public int Vcpus { get; init; }

    /// <summary>Memory of these together, in MiB.</summary>
    public long MemoryMib { get; init; }

    /// <summary>Most sandboxes that it may have at once.</summary>
    public int? MaxSandboxes { get; init; }

    /// <summary>Most virtual CPUs that its sandboxes together may have.</summary>
    public int? MaxVcpus { get; init; }

    /// <summary>Most memory that its sandboxes together may have, in MiB.</summary>
    public int? MaxMemoryMib { get; init; }

    /// <summary>Longest time that one of its sandboxes may live.</summary>
    public TimeSpan? MaxLifetime { get; init; }

    /// <summary>The most that its sandboxes may reach: <c>internet</c> or <c>none</c>.</summary>
    public string? Egress { get; init; }

    /// <summary>Names of the templates that its sandboxes may start from.</summary>
    public IReadOnlyList<string>? Templates { get; init; }

    internal static ProjectUsage From(HealthProject project) => new()
    {
        Name = project.Name,
        Sandboxes = project.Sandboxes,
        Vcpus = project.Vcpus,
        MemoryMib = project.MemoryMib,
        MaxSandboxes = project.MaxSandboxes,
        MaxVcpus = project.MaxVcpus,
        MaxMemoryMib = project.MaxMemoryMib,
        MaxLifetime = project.MaxLifetime is { } seconds ? WireTime.Seconds(seconds) : null,
        Egress = project.Egress,
        Templates = project.Templates,
    };
}
