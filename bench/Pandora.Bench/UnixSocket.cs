using System.Net.Sockets;

namespace Pandora.Bench;

/// <summary>Connects to a socket that a VMM is about to create.</summary>
internal static class UnixSocket
{
    private const int MaxAttempts = 5000;

    /// <summary>Connects to the socket at a path, and tries again every millisecond, 5000 times at most.</summary>
    /// <exception cref="SocketException">Nothing listens at the path.</exception>
    public static async Task<Socket> ConnectAsync(string path)
    {
        for (var attempt = 0; ; attempt++)
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(path));
                return socket;
            }
            catch (Exception e)
            {
                socket.Dispose();
                if (e is not SocketException || attempt >= MaxAttempts)
                {
                    throw;
                }

                await Task.Delay(TimeSpan.FromMilliseconds(1), TimeProvider.System);
            }
        }
    }
}
