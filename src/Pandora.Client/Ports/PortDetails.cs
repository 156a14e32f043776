using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>A port of a sandbox as the server showed it at one moment: one on which a program listens (TCP), or which is public.</summary>
public sealed record ListeningPort
{
    /// <summary>The port: 1 to 65,535.</summary>
    public int Port { get; init; }

    /// <summary>The guest's addresses on which programs listen, such as <c>127.0.0.1</c>; <c>0.0.0.0</c> and <c>::</c> are all addresses.
    /// Empty when none listens.</summary>
    public IReadOnlyList<string> Addresses { get; init; } = [];

    /// <summary>Whether previews of the port need neither key nor link.</summary>
    public bool IsPublic { get; init; }

    /// <summary>Address of the port for browsers. It needs a link of <see cref="SandboxPorts.CreateLinkAsync"/>, unless the port is public
    /// or the server needs no key.</summary>
    public string PreviewUrl { get; init; } = "";

    /// <summary>Pid of a program that listens; null when it is not known.</summary>
    public int? Pid { get; init; }

    /// <summary>Name of that program; null when it is not known. It comes from the guest: do not trust it.</summary>
    public string? Program { get; init; }

    internal static ListeningPort From(PortInfo info) => new()
    {
        Port = info.Port,
        Addresses = info.Addresses,
        IsPublic = info.Public,
        PreviewUrl = info.PreviewUrl,
        Pid = info.Pid,
        Program = info.Program,
    };
}

/// <summary>How browsers reach a port of a sandbox.</summary>
public sealed record PortPreview
{
    /// <summary>The port.</summary>
    public int Port { get; init; }

    /// <summary>Whether it needs neither key nor link.</summary>
    public bool IsPublic { get; init; }

    /// <summary>Its address.</summary>
    public string Url { get; init; } = "";
}

/// <summary>A link that opens the preview of a port without a key.</summary>
public sealed record PreviewLink
{
    /// <summary>The address. Everybody who has it can use the port until it expires: treat it as a password.</summary>
    public string Url { get; init; } = "";

    /// <summary>When it expires. It also ends with the sandbox, and with the key that made it.</summary>
    public DateTimeOffset ExpiresAt { get; init; }
}

/// <summary>Who may log in to a sandbox by SSH, and how its SSH server is known.</summary>
public sealed record SshDetails
{
    /// <summary>The public keys that may log in, as lines of <c>authorized_keys</c>.</summary>
    public IReadOnlyList<string> Keys { get; init; } = [];

    /// <summary>The server's public host key, <c>ssh-ed25519 AAAA…</c>: pin it in <c>known_hosts</c>.</summary>
    public string HostKey { get; init; } = "";

    internal static SshDetails From(SshAccess access) => new() { Keys = access.Keys, HostKey = access.HostKey };
}
