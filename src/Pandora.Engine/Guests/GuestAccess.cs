using System.Diagnostics.CodeAnalysis;
using System.Net;
using Microsoft.Extensions.Logging;
using Pandora.Vmm;

namespace Pandora.Engine.Guests;

/// <summary>What the server needs to connect to a guest.</summary>
public sealed record GuestLogin
{
    /// <summary>The microVM's id.</summary>
    public required string Id { get; init; }

    /// <summary>Its virtual machine.</summary>
    public required IVirtualMachine Machine { get; init; }

    /// <summary>The guest's address on the host.</summary>
    public required IPAddress Address { get; init; }

    /// <summary>The only SSH host key that is accepted.</summary>
    public required byte[] HostKey { get; init; }

    /// <summary>The guest's secret; empty for a guest of an older Pandora.</summary>
    public required byte[] Secret { get; init; }

    /// <summary>Version of the streams' protocol of its agent; 0 for an agent that has none.</summary>
    public required int AgentVersion { get; init; }

    /// <summary>How commands reached it so far; null for a guest that has just started.</summary>
    public required ExecWay? Way { get; init; }

    /// <summary>Whether the guest may have no device for its agent, and then has an SSH server.</summary>
    public required bool MayLackDevice { get; init; }

    /// <summary>Whether an earlier server used the guest. Then the commands that it had running are killed.</summary>
    public required bool IsAdopted { get; init; }
}

/// <summary>Connects this server to guests. Disposing it leaves open connections as they are, but no new one can be made.</summary>
/// <param name="publicKey">The server's public key, as a line of a guest's <c>authorized_keys</c>.</param>
/// <param name="connect">Waits until a guest is up, and connects to it.</param>
/// <param name="key">The key to dispose of together with this object, or null.</param>
public sealed class GuestAccess(string publicKey, Func<GuestLogin, CancellationToken, Task<IGuest>> connect, IDisposable? key = null)
    : IDisposable
{
    /// <summary>The server's public key, as a line of a guest's <c>authorized_keys</c>.</summary>
    public string PublicKey => publicKey;

    /// <summary>Loads the key pair of the data directory and returns access by the guests' agents.</summary>
    [SuppressMessage("Reliability", "CA2000", Justification = "The returned GuestAccess disposes of the key.")]
    public static async Task<GuestAccess> OpenAsync(
        EngineOptions options, TimeProvider time, ILoggerFactory loggers, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(options);
        var key = await ClientKey.LoadAsync(options.DataDir, cancellationToken);
        return new GuestAccess(key.PublicLine, new GuestConnector(options, key, time, loggers).ConnectAsync, key);
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
