using System.Globalization;
using System.Net;
using System.Text.Json.Serialization;
using Pandora.Engine.Networking;
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

    /// <summary>A network namespace, with all that is in it.</summary>
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

    /// <summary>What the host's kernel tracks of a slot's connections, named <c>mark/address</c>.</summary>
    Tracking,
}

/// <summary>Something on the host that one microVM owns and that must be undone.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Name">Its name or path, which holds the instance's or the microVM's id.</param>
public sealed record HostResource(ResourceKind Kind, string Name)
{
    /// <summary>Names a process.</summary>
    public static HostResource OfProcess(int pid, long startTime) => new(ResourceKind.Process, $"{pid}/{startTime}");

    /// <summary>Names the tracked connections of a slot.</summary>
    public static HostResource OfConnections(uint mark, IPAddress address) => new(ResourceKind.Tracking, $"{mark}/{address}");

    /// <summary>Looks on the host whether it is there.</summary>
    public bool Exists() => Kind switch
    {
        ResourceKind.Process => IsRunning(),
        ResourceKind.Namespace => File.Exists($"/run/netns/{Name}"),
        // Not /sys/class/net: that shows the namespace of whoever mounted it.
        ResourceKind.Interface => File.ReadLines("/proc/thread-self/net/dev").Any(l => l.TrimStart().StartsWith($"{Name}:", StringComparison.Ordinal)),
        ResourceKind.File => File.Exists(Name),
        ResourceKind.Tracking => IsTracked(),
        ResourceKind.Cgroup or ResourceKind.Directory => Directory.Exists(Name),
        // Nothing on the host shows either.
        ResourceKind.Connection or ResourceKind.Slot => false,
    };

    private bool IsTracked()
    {
        var parts = Name.Split('/');
        try
        {
            return Conntrack.Count(uint.Parse(parts[0], CultureInfo.InvariantCulture), IPAddress.Parse(parts[1])) > 0;
        }
        catch (IOException)
        {
            // Not seen to be gone.
            return true;
        }
    }

    private bool IsRunning()
    {
        var parts = Name.Split('/');
        using var process = ProcessHandle.TryOpen(int.Parse(parts[0]), long.Parse(parts[1]));
        return process is not null;
    }
}
