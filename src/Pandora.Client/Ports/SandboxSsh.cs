using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>
/// The SSH server of a sandbox, which starts with each connection and listens on no address. Members are virtual, so that a test can
/// replace them.
/// </summary>
public class SandboxSsh
{
    private readonly PandoraApi? _api;
    private readonly string _sandboxId;

    internal SandboxSsh(PandoraApi api, string sandboxId) => (_api, _sandboxId) = (api, sandboxId);

    /// <summary>For a class of a test that replaces members.</summary>
    protected SandboxSsh() => _sandboxId = "";

    private PandoraApi Api => _api ?? throw new NotSupportedException("this SSH server has no client: replace the member in your test");

    /// <summary>Shows the keys that may log in, and the server's host key.</summary>
    /// <param name="cancellationToken">Ends the request.</param>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="SandboxGoneException">Its microVM died.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async Task<SshDetails> GetAsync(CancellationToken cancellationToken = default) =>
        SshDetails.From(await Api.GetSshAsync(_sandboxId, cancellationToken).ConfigureAwait(false));

    /// <summary>Says which keys may log in from now on. Connections that are open live on.</summary>
    /// <param name="keys">Public keys as lines of <c>authorized_keys</c> without options, such as <c>ssh-ed25519 AAAA… name</c>: at most
    /// <see cref="Limits.MaxSshKeys"/>, <see cref="Limits.MaxSshKeyBytes"/> bytes in all. They take the place of those before.</param>
    /// <param name="cancellationToken">Ends the request. The server may have done it.</param>
    /// <exception cref="InvalidRequestException">A key is not one.</exception>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="SandboxGoneException">Its microVM died.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async Task<SshDetails> SetKeysAsync(IEnumerable<string> keys, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(keys);
        return SshDetails.From(
            await Api.SetSshKeysAsync(_sandboxId, new SshKeysRequest([.. keys]), cancellationToken).ConfigureAwait(false));
    }

    /// <summary>Connects to the SSH server: the bytes of the SSH protocol, for a program that speaks it.</summary>
    /// <param name="cancellationToken">Ends the wait; the connection that is returned does not depend on it.</param>
    /// <exception cref="PandoraApiException">The guest has no SSH server (code <c>ssh_unsupported</c>), or too many connections are open
    /// (code <c>too_many_connections</c>, after retries).</exception>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="SandboxGoneException">Its microVM died.</exception>
    /// <exception cref="PandoraClientException">The connection failed for another reason.</exception>
    public virtual Task<PortStream> ConnectAsync(CancellationToken cancellationToken = default) =>
        Api.ConnectSshAsync(_sandboxId, cancellationToken);
}
