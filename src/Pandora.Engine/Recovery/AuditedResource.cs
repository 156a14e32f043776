namespace Pandora.Engine.Recovery;

/// <summary>Kinds of an instance's resources on its host, in the order in which orphans are cleaned up.</summary>
public enum AuditedKind
{
    /// <summary>A process, named by its pid.</summary>
    Process,

    /// <summary>A mount, named by its mount point.</summary>
    Mount,

    /// <summary>A jail's directory.</summary>
    Chroot,

    /// <summary>A cgroup, named by its path.</summary>
    Cgroup,

    /// <summary>A network interface of the host.</summary>
    Interface,

    /// <summary>A network namespace, with its tap device and rules.</summary>
    Namespace,

    /// <summary>A rule or table of nftables.</summary>
    Rule,

    /// <summary>The kernel's tracking entries for a slot's connections, named <c>mark/address</c>.</summary>
    Tracking,

    /// <summary>A socket, named by its path.</summary>
    Socket,

    /// <summary>A file or directory, named by its path.</summary>
    File,

    /// <summary>A snapshot's directory. Its owner is the template; it survives the server.</summary>
    Snapshot,
}

/// <summary>One resource of an instance on its host.</summary>
/// <param name="Kind">Its kind.</param>
/// <param name="Name">Its name or path.</param>
/// <param name="Owner">The owner, such as <c>sandbox ID</c> or <c>the server</c>; null for an orphan.</param>
public sealed record AuditedResource(AuditedKind Kind, string Name, string? Owner);
