using System.Diagnostics.CodeAnalysis;
using System.Net;
using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Guests;

/// <summary>What the server needs to connect to a guest.</summary>
/// <param name="Address">The guest's address on the host.</param>
/// <param name="HostKey">The only SSH host key that is accepted.</param>
/// <param name="IsAdopted">Whether an earlier server used the guest. Then the commands that it had running are killed.</param>
public sealed record GuestLogin(IPAddress Address, byte[] HostKey, bool IsAdopted);

/// <summary>Connects this server to guests. Disposing it leaves open connections as they are, but no new one can be made.</summary>
/// <param name="publicKey">The server's public key, as a line of a guest's <c>authorized_keys</c>.</param>
/// <param name="connect">Waits until a guest is up, and connects to it.</param>
/// <param name="key">The key to dispose of together with this object, or null.</param>
public sealed class GuestAccess(string publicKey, Func<GuestLogin, CancellationToken, Task<IGuest>> connect, IDisposable? key = null)
    : IDisposable
{
    /// <summary>The server's public key, as a line of a guest's <c>authorized_keys</c>.</summary>
    public string PublicKey => publicKey;

    /// <summary>Loads the key pair of the data directory and returns access by SSH.</summary>
    [SuppressMessage("Reliability", "CA2000", Justification = "The returned GuestAccess disposes of the key.")]
    public static async Task<GuestAccess> OpenSshAsync(
        EngineOptions options, TimeProvider time, ILoggerFactory loggers, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(options);
        var logger = loggers.CreateLogger<SshGuest>();
        var key = await ClientKey.LoadAsync(options.DataDir, cancellationToken);
        return new GuestAccess(
            key.PublicLine,
            async (login, token) => await SshGuest.ConnectAsync(
                login.Address, key, login.HostKey, options.MaxExecs, login.IsAdopted, time, logger, token), key);
    }

    /// <summary>Waits until a guest is up, and connects to it.</summary>
    /// <exception cref="OperationCanceledException">Cancelled; nothing of the attempt remains.</exception>
    public Task<IGuest> ConnectAsync(GuestLogin login, CancellationToken cancellationToken) => connect(login, cancellationToken);

    /// <inheritdoc/>
    public void Dispose() => key?.Dispose();
}

/// <summary>Opens the access to a node's guests.</summary>
public delegate Task<GuestAccess> OpenGuestAccess(
    EngineOptions options, TimeProvider time, ILoggerFactory loggers, CancellationToken cancellationToken);
