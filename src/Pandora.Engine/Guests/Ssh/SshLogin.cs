using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using Renci.SshNet;
using Renci.SshNet.Common;

namespace Pandora.Engine.Guests.Ssh;

/// <summary>Logs in to the SSH server of one guest. Its host key is pinned.</summary>
/// <param name="address">The guest's address on the host.</param>
/// <param name="key">The server's key.</param>
/// <param name="hostKey">The only host key that is accepted.</param>
/// <param name="time">Clock of the pauses.</param>
internal sealed class SshLogin(IPAddress address, ClientKey key, byte[] hostKey, TimeProvider time)
{
    private static readonly TimeSpan StepLimit = TimeSpan.FromSeconds(20), Attempt = TimeSpan.FromMilliseconds(30);
    private static readonly TimeSpan NetworkPause = TimeSpan.FromMilliseconds(20), ServerPause = TimeSpan.FromMilliseconds(10);

    /// <summary>Waits until the guest's SSH server is up, and logs in.</summary>
    /// <exception cref="SshException">The SSH server refuses the server's key, or has another host key.</exception>
    public async Task<SshClient> ConnectAsync(CancellationToken cancellationToken)
    {
        while (!await AcceptsAsync(1, cancellationToken))
        {
            await Task.Delay(NetworkPause, time, cancellationToken);
        }

        while (true)
        {
            var client = NewClient();
            // SSH.NET ignores the token once it has the SSH server's name, and each of its steps may take the whole limit, on the caller's
            // thread when the name is there already. So it has another thread, and the wait takes the token, too.
            var opening = Task.Run(() => client.ConnectAsync(cancellationToken), CancellationToken.None);
            try
            {
                await opening.WaitAsync(cancellationToken);
                return client;
            }
            catch (SocketException)
            {
                // The guest's network is up, but its SSH server is not yet.
                _ = CloseAsync(client, opening);
                await Task.Delay(ServerPause, time, cancellationToken);
            }
            catch
            {
                _ = CloseAsync(client, opening);
                throw;
            }
        }
    }

    /// <summary>Whether the guest's SSH server can be connected to now.</summary>
    public Task<bool> IsUpAsync(CancellationToken cancellationToken) => AcceptsAsync(22, cancellationToken);

    // A closed port answers at once when the guest's network is up, and costs its SSH server nothing. Attempts are short, because a lost
    // packet would otherwise cost a second.
    private async Task<bool> AcceptsAsync(int port, CancellationToken cancellationToken)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        using var pause = new CancellationTokenSource(Attempt, time);
        using var attempt = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, pause.Token);
        try
        {
            await socket.ConnectAsync(new IPEndPoint(address, port), attempt.Token);
            return true;
        }
        catch (SocketException e)
        {
            return port == 1 && e.SocketErrorCode == SocketError.ConnectionRefused;
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return false;
        }
    }

    // Waits for the connect to end first: a client that is disposed of while it connects would keep its socket and its thread.
    private static async Task CloseAsync(SshClient client, Task opening)
    {
        await opening.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await SshSession.OnThread(client.Dispose);
    }

    private SshClient NewClient()
    {
        var info = new ConnectionInfo($"{address}", 22, "root", new PrivateKeyAuthenticationMethod("root", key.PrivateKey))
        {
            Timeout = StepLimit,
            ChannelCloseTimeout = TimeSpan.FromSeconds(1),
        };
        var client = new SshClient(info);
        client.HostKeyReceived += (_, e) => e.CanTrust = CryptographicOperations.FixedTimeEquals(e.HostKey, hostKey);
        return client;
    }
}
