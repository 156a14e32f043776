using Pandora.Contracts;

namespace Pandora.Client;

// Members of version 0.1. They are removed in the next version.
public partial class PandoraClient
{
    /// <summary>Runs a command in a sandbox that is known by its id.</summary>
    [Obsolete("Use Connect(id).ExecAsync(…)")]
    public async Task<ExecResult> ExecAsync(string id, ExecRequest request, CancellationToken cancellationToken = default) =>
        ExecResult.From(await Api.ExecAsync(id, request, cancellationToken).ConfigureAwait(false), request);

    /// <summary>Restarts a sandbox's idle time.</summary>
    [Obsolete("Use Connect(id).KeepAliveAsync()")]
    public Task<SandboxDetails> KeepAliveAsync(string id, CancellationToken cancellationToken = default) =>
        Connect(id).KeepAliveAsync(cancellationToken);

    /// <summary>Ends a sandbox and returns what was cleaned up.</summary>
    [Obsolete("Use Connect(id).EndAsync()")]
    public Task<SandboxReceipt> DeleteWithReceiptAsync(string id, CancellationToken cancellationToken = default) =>
        Connect(id).EndAsync(cancellationToken);
}
