using System.Net.Sockets;

namespace Pandora.Linux;

/// <summary>Connects to sockets in directories whose owner is not trusted.</summary>
public static class UnixSocket
{
    /// <summary>Connects to a socket by its path. A link in its place is refused, because it could lead to a socket of the host.</summary>
    /// <exception cref="RootedPathException">There is no socket of that name.</exception>
    /// <exception cref="SocketException">No process listens on the socket.</exception>
    public static async Task<Socket> ConnectAsync(string path, CancellationToken cancellationToken)
    {
        using var directory = RootedDirectory.Open(Path.GetDirectoryName(path)!);
        using var place = directory.OpenSocket(Path.GetFileName(path));
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            // Connect by the descriptor: this is the socket that was checked, even if another file has its name by now.
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(FileStatus.PathOf(place)), cancellationToken);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
