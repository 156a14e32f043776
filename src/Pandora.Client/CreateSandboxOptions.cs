using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>What a new sandbox is to be like. Everything may be left out.</summary>
public sealed class CreateSandboxOptions
{
    /// <summary>
    /// Idle time after which the server ends the sandbox: at least <see cref="Limits.MinIdleTimeout"/> seconds, at most
    /// <see cref="ServerHealth.MaxIdleTimeout"/>. Default: the server's, <see cref="Limits.DefaultIdleTimeout"/> seconds.
    /// </summary>
    public TimeSpan? IdleTimeout { get; set; }

    /// <summary>Template to start from. Default: <c>default</c>.</summary>
    public string? Template { get; set; }

    /// <summary>What the sandbox may reach: <c>internet</c>, or <c>none</c>. Default: the server's.</summary>
    public string? Egress { get; set; }

    /// <summary>
    /// Memory in MiB, from <see cref="Limits.MinMemoryMib"/> to <see cref="Limits.MaxMemoryMib"/>, and at most what the template and the
    /// project allow. Default: the template's.
    /// </summary>
    public int? MemoryMib { get; set; }

    /// <summary>
    /// Number of virtual CPUs, from 1 to <see cref="Limits.MaxVcpus"/>, and at most what the template and the project allow. Default: the
    /// template's.
    /// </summary>
    public int? Vcpus { get; set; }

    /// <summary>
    /// Size of the disk in MiB, from <see cref="Limits.MinDiskMib"/> to <see cref="Limits.MaxDiskMib"/>, at least the template's, and at
    /// most what the template and the project allow. Default: the template's.
    /// </summary>
    public int? DiskMib { get; set; }

    /// <summary>
    /// Ports whose previews need neither key nor link: everybody who can reach the server can use them. At most
    /// <see cref="Limits.MaxPublicPorts"/>. Default: none.
    /// </summary>
    public IReadOnlyList<int>? PublicPorts { get; set; }

    /// <summary>
    /// Public keys that may log in by SSH, as lines of <c>authorized_keys</c> without options, such as <c>ssh-ed25519 AAAA… name</c>: at
    /// most <see cref="Limits.MaxSshKeys"/>, <see cref="Limits.MaxSshKeyBytes"/> bytes in all. Default: none.
    /// </summary>
    public IReadOnlyList<string>? SshKeys { get; set; }

    /// <summary>Pairs to find the sandbox by later, at most <see cref="Limits.MaxMetadataBytes"/> in all.</summary>
    public IReadOnlyDictionary<string, string>? Metadata { get; set; }

    /// <summary>
    /// Name of this request, at most <see cref="Limits.MaxIdempotencyKeyLength"/> visible ASCII characters. A second create with the same
    /// key and the same options returns the same sandbox, so a create whose answer was lost can be repeated.
    /// </summary>
    public string? IdempotencyKey { get; set; }

    /// <summary>Whether the client keeps the sandbox alive. Default: <see cref="PandoraClientOptions.KeepAlive"/>.</summary>
    public bool? KeepAlive { get; set; }
}
