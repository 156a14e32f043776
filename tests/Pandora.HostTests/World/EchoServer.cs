using System.Net;
using System.Net.Sockets;
using Pandora.TestHost;

namespace Pandora.HostTests.World;

/// <summary>A TCP service in a namespace that sends back what it receives, or sends without end, and counts bytes.</summary>
internal sealed class EchoServer : IDisposable
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(20);
    private readonly Socket _socket;
    private readonly bool _sends;
    private int _open;
    private long _bytes;

    /// <param name="place">The namespace.</param>
    /// <param name="address">Its address.</param>
    /// <param name="port">Its port.</param>
    /// <param name="sends">Whether it sends without end instead of sending back.</param>
    public EchoServer(NetworkNamespace place, string address, int port, bool sends = false)
    {
        _sends = sends;
        _socket = place.Run(() =>
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(new IPEndPoint(IPAddress.Parse(address), port));
            socket.Listen();
            return socket;
        });
        _ = AcceptAsync();
    }

    /// <summary>Bytes received, or given to the kernel to send, on all connections.</summary>
    public long Bytes => Interlocked.Read(ref _bytes);

    /// <summary>Connections that this side has open.</summary>
    public int Open => Volatile.Read(ref _open);

    public void Dispose() => _socket.Dispose();

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                _ = ServeAsync(await _socket.AcceptAsync());
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Closed.
        }
    }

    private async Task ServeAsync(Socket client)
    {
        Interlocked.Increment(ref _open);
        var buffer = new byte[4096];
        try
        {
            using (client)
            {
                while (true)
                {
                    var count = _sends ? buffer.Length : await client.ReceiveAsync(buffer);
                    if (count == 0)
                    {
                        return;
                    }

                    await client.SendAsync(buffer.AsMemory(0, count));
                    Interlocked.Add(ref _bytes, count);
                    if (_sends)
                    {
                        await Task.Delay(Pause, TimeProvider.System);
                    }
                }
            }
        }
        catch (SocketException)
        {
            // The other side, or its network, has ended the connection.
        }
        finally
        {
            Interlocked.Decrement(ref _open);
        }
    }
}
