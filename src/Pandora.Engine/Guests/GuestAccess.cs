using System.Diagnostics.CodeAnalysis;
using System.Net;
using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Guests;

/// <summary>A guest to be reached.</summary>
/// <param name="Address">Where the host reaches it.</param>
/// <param name="HostKey">The only SSH host key that is accepted.</param>
/// <param name="IsTakenOver">Whether an earlier server used it: what that one had running is killed.</param>
public sealed record GuestLogin(IPAddress Address, byte[] HostKey, bool IsTakenOver);

/// <summary>How this server reaches guests. Disposing it ends that; guests that were reached stay so.</summary>
/// <param name="publicKey">What a guest must know it by, as a line of <c>authorized_keys</c>.</param>
/// <param name="connect">Waits until a guest is up, and reaches it.</param>
/// <param name="key">What is disposed of with it; null for nothing.</param>
public sealed class GuestAccess(string publicKey, Func<GuestLogin, CancellationToken, Task<IGuest>> connect, IDisposable? key = null)
    : IDisposable
{
    /// <summary>What a guest must know the server by, as a line of <c>authorized_keys</c>.</summary>
    public string PublicKey => publicKey;

    /// <summary>Opens the way that a server takes: SSH, with a key pair of the data directory.</summary>
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
                login.Address, key, login.HostKey, options.MaxExecs, login.IsTakenOver, time, logger, token), key);
    }

    /// <summary>Waits until a guest is up, and reaches it.</summary>
    /// <exception cref="OperationCanceledException">Cancelled; nothing is left of the attempt.</exception>
    public Task<IGuest> ConnectAsync(GuestLogin login, CancellationToken cancellationToken) => connect(login, cancellationToken);

    /// <inheritdoc/>
    public void Dispose() => key?.Dispose();
}

/// <summary>Opens the way to a node's guests.</summary>
public delegate Task<GuestAccess> OpenGuestAccess(
    EngineOptions options, TimeProvider time, ILoggerFactory loggers, CancellationToken cancellationToken);
