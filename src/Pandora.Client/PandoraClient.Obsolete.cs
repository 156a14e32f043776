using System.Diagnostics.CodeAnalysis;
using Pandora.Contracts;

namespace Pandora.Client;

// Members of version 0.1. They are removed in the next version.
public partial class PandoraClient
{
    /// <summary>Creates a sandbox.</summary>
    [SuppressMessage("ApiDesign", "RS0026", Justification = "It is removed in the next version")]
    [Obsolete("Use CreateAsync(new CreateSandboxOptions { IdleTimeout = … })")]
    public Task<Sandbox> CreateAsync(
        TimeSpan? idleTimeout,
        string? template = null,
        IReadOnlyDictionary<string, string>? metadata = null,
        string? egress = null,
        string? idempotencyKey = null,
        CancellationToken cancellationToken = default)
    {
        var options = new CreateSandboxOptions
        {
            IdleTimeout = idleTimeout,
            Template = template,
            Metadata = metadata,
            Egress = egress,
            IdempotencyKey = idempotencyKey,
            // As it was in that version.
            KeepAlive = false,
        };
        return CreateAsync(options, cancellationToken);
    }

    /// <summary>Runs a command in a sandbox that is known by its id.</summary>
    [Obsolete("Use Connect(id).ExecAsync(…)")]
    public async Task<ExecResult> ExecAsync(string id, ExecRequest request, CancellationToken cancellationToken = default) =>
        ExecResult.From(await Api.ExecAsync(id, request, cancellationToken));

    /// <summary>Restarts a sandbox's idle time.</summary>
    [Obsolete("Use Connect(id).KeepAliveAsync()")]
    public Task<SandboxDetails> KeepAliveAsync(string id, CancellationToken cancellationToken = default) =>
        Connect(id).KeepAliveAsync(cancellationToken);

    /// <summary>Ends a sandbox and returns what was cleaned up.</summary>
    [Obsolete("Use Connect(id).EndAsync()")]
    public Task<SandboxReceipt> DeleteWithReceiptAsync(string id, CancellationToken cancellationToken = default) =>
        Connect(id).EndAsync(cancellationToken);
}
