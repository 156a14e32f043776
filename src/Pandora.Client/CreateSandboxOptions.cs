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
