using Pandora.Agent.Processes;
using Pandora.Agent.Protocol.Ports;

namespace Pandora.Agent.Ports;

/// <summary>
/// Starts the guest's SSH server (OpenSSH's sshd) for one connection each. It listens nowhere: its input and its output are one socket,
/// whose other end is the agent's.
/// </summary>
/// <param name="loop">Tells when a server has ended.</param>
/// <param name="files">What the server reads.</param>
/// <param name="start">Starts the program with arguments and a socket, and returns a descriptor of the process (pidfd_open(2)).</param>
internal sealed class SshServer(EventLoop loop, SshFiles files, Func<IReadOnlyList<string>, int, int> start)
{
    /// <summary>Number of servers that have not ended, of connections that have.</summary>
    public int Lingering { get; private set; }

    /// <summary>Starts a server.</summary>
    /// <param name="keys">The public keys that may log in.</param>
    /// <exception cref="PortFailedException">The guest has none, or it could not be started.</exception>
    public SshConnection Open(IReadOnlyList<string> keys)
    {
        if (!File.Exists(files.Program))
        {
            throw new PortFailedException(
                PortFailureKind.NoSshServer, $"the guest has no SSH server: {files.Program} (package openssh-server) is missing");
        }

        AuthorizedKeys? authorized = null;
        var (own, other) = (-1, -1);
        try
        {
            authorized = files.Prepare(keys);
            (own, other) = Linux.OpenSocketPair();
            string[] arguments = [files.Program, "-i", "-e", "-f", files.Config, "-o", $"AuthorizedKeysFile={authorized.Path}"];
            var connection = new SshConnection(own, authorized);
            Watch(start(arguments, other), connection);
            return connection;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException or RequestFailedException)
        {
            authorized?.Release();
            if (own >= 0)
            {
                Linux.Close(own);
            }

            throw new PortFailedException(PortFailureKind.Guest, $"the guest's SSH server cannot be started: {e.Message}");
        }
        finally
        {
            if (other >= 0)
            {
                Linux.Close(other);
            }
        }
    }

    // The server ends by itself when its socket is closed. Its status must be taken, or it stays as a zombie.
    private void Watch(int pidfd, SshConnection connection)
    {
        connection.Released = () => Lingering += connection.HasEnded ? 0 : 1;
        try
        {
            loop.Add(pidfd, Linux.EpollIn, _ => OnEnded(pidfd, connection));
        }
        catch (IOException)
        {
            Linux.Close(pidfd);
            throw;
        }
    }

    private void OnEnded(int pidfd, SshConnection connection)
    {
        if (Linux.TakeStatus(pidfd) is null)
        {
            return;
        }

        loop.Remove(pidfd);
        Linux.Close(pidfd);
        connection.HasEnded = true;
        Lingering -= connection.IsReleased ? 1 : 0;
    }
}

/// <summary>The connection to one SSH server.</summary>
/// <param name="descriptor">The agent's end of the socket, which its user closes.</param>
/// <param name="keys">The keys that may log in.</param>
internal sealed class SshConnection(int descriptor, AuthorizedKeys keys)
{
    /// <summary>The agent's end of the socket, which its user closes.</summary>
    public int Descriptor => descriptor;

    /// <summary>Whether the server has ended.</summary>
    public bool HasEnded { get; set; }

    /// <summary>Whether the connection is used no more.</summary>
    public bool IsReleased { get; private set; }

    /// <summary>Called when the connection is used no more.</summary>
    public Action? Released { get; set; }

    /// <summary>Says that the connection is used no more.</summary>
    public void Release()
    {
        IsReleased = true;
        keys.Release();
        Released?.Invoke();
    }
}
