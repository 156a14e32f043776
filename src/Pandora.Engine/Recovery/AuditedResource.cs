namespace Pandora.Engine.Recovery;

/// <summary>Kinds of what an instance has on its host, in the order in which leftovers are undone.</summary>
public enum AuditedKind
{
    /// <summary>A process, named by its pid.</summary>
    Process,

    /// <summary>Something mounted, named by its mount point.</summary>
    Mount,

    /// <summary>A jail's directory.</summary>
    Chroot,

    /// <summary>A cgroup, named by its path.</summary>
    Cgroup,

    /// <summary>A network interface of the host.</summary>
    Interface,

    /// <summary>A network namespace, with the tap and rules in it.</summary>
    Namespace,

    /// <summary>A rule or table of nftables.</summary>
    Rule,

    /// <summary>What the kernel tracks of a slot's connections, named <c>mark/address</c>.</summary>
    Tracking,

    /// <summary>A socket, named by its path.</summary>
    Socket,

    /// <summary>A file or directory, named by its path.</summary>
    File,

    /// <summary>A snapshot's directory. It outlives servers and belongs to its template.</summary>
    Snapshot,
}

/// <summary>One thing of an instance on its host.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Name">Its name or path.</param>
/// <param name="Owner">Whose it is, such as <c>sandbox ID</c> or <c>the server</c>; null when it is nobody's: a leftover.</param>
public sealed record AuditedResource(AuditedKind Kind, string Name, string? Owner);
