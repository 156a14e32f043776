using System.Text.Json.Serialization;
using Pandora.Linux;

namespace Pandora.Engine;

/// <summary>Kinds of host resource.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<ResourceKind>))]
public enum ResourceKind
{
    /// <summary>A process, named <c>pid/start time</c>.</summary>
    Process,

    /// <summary>A cgroup, named by its path.</summary>
    Cgroup,

    /// <summary>A network namespace with its contents.</summary>
    Namespace,

    /// <summary>A network interface of the host.</summary>
    Interface,

    /// <summary>A file, named by its path.</summary>
    File,

    /// <summary>A directory with its contents, named by its path.</summary>
    Directory,

    /// <summary>A connection to the guest.</summary>
    Connection,

    /// <summary>The number of a network slot.</summary>
    Slot,

    /// <summary>The kernel's tracking entries for a slot's connections, named <c>mark/address</c>.</summary>
    Tracking,
}

/// <summary>A resource on the host that one microVM owns. Its teardown undoes it.</summary>
/// <param name="Kind">Its kind.</param>
/// <param name="Name">Its name or path, which holds the instance's or the microVM's id.</param>
public sealed record HostResource(ResourceKind Kind, string Name)
{
    /// <summary>The resource of a process.</summary>
    public static HostResource OfProcess(int pid, long startTime) => new(ResourceKind.Process, $"{pid}/{startTime}");

    /// <summary>Checks on the host whether the resource exists. Network resources are checked by <c>SlotPart.Exists</c>.</summary>
    /// <exception cref="IOException">The check failed.</exception>
    /// <exception cref="InvalidOperationException">It is a network resource, which only the network can check.</exception>
    public bool Exists() => Kind switch
    {
        ResourceKind.Process => IsRunning(),
        ResourceKind.File => File.Exists(Name),
        ResourceKind.Cgroup or ResourceKind.Directory => Directory.Exists(Name),
        // The host has no object for either.
        ResourceKind.Connection or ResourceKind.Slot => false,
        ResourceKind.Namespace or ResourceKind.Interface or ResourceKind.Tracking =>
            throw new InvalidOperationException($"only the network can check whether {Name} exists"),
    };

    private bool IsRunning()
    {
        var parts = Name.Split('/');
        using var process = ProcessHandle.TryOpen(int.Parse(parts[0]), long.Parse(parts[1]));
        return process is not null;
    }
}
