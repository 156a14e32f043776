using System.Net.Sockets;

namespace Pandora.Linux;

/// <summary>Connects to sockets whose directory belongs to somebody who is not trusted.</summary>
public static class UnixSocket
{
    /// <summary>Connects to a socket by its path. It must be the socket itself: a link in its place, which could lead to one of the host's,
    /// is refused.</summary>
    /// <exception cref="RootedPathException">There is none, or something else has its name.</exception>
    /// <exception cref="SocketException">Nobody listens.</exception>
    public static async Task<Socket> ConnectAsync(string path, CancellationToken cancellationToken)
    {
        using var directory = RootedDirectory.Open(Path.GetDirectoryName(path)!);
        using var place = directory.OpenSocket(Path.GetFileName(path));
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            // By its descriptor: this is the socket that was looked at, whatever has its name by now.
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
