using System.Net;
using System.Net.Sockets;

namespace Pandora.TestHost;

/// <summary>A TCP service in a namespace that sends hello and counts its clients: the positive control of every refusal.</summary>
internal sealed class Listener : IDisposable
{
    private readonly Socket _socket;
    private int _count;

    public Listener(NetworkNamespace place, IPAddress address, int port)
    {
        _socket = place.Run(() =>
        {
            var socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(new IPEndPoint(address, port));
            socket.Listen();
            return socket;
        });
        _ = AcceptAsync();
    }

    public int Count => Volatile.Read(ref _count);

    public void Dispose() => _socket.Dispose();

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                using var client = await _socket.AcceptAsync();
                Interlocked.Increment(ref _count);
                await client.SendAsync("hello\n"u8.ToArray());
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Closed.
        }
    }
}

/// <summary>Receives datagrams in a namespace, remembers their senders, and may answer them.</summary>
internal sealed class DatagramListener : IDisposable
{
    private readonly Socket _socket;

    public DatagramListener(NetworkNamespace place, IPAddress address, int port, Func<byte[], byte[]?>? answer = null)
    {
        _socket = place.Run(() =>
        {
            var socket = new Socket(address.AddressFamily, SocketType.Dgram, ProtocolType.Udp);
            socket.Bind(new IPEndPoint(address, port));
            return socket;
        });
        _ = ReceiveAsync(answer);
    }

    public List<string> Senders { get; } = [];

    public void Dispose() => _socket.Dispose();

    private async Task ReceiveAsync(Func<byte[], byte[]?>? answer)
    {
        var buffer = new byte[2048];
        try
        {
            while (true)
            {
                var received = await _socket.ReceiveFromAsync(
                    buffer, new IPEndPoint(_socket.AddressFamily == AddressFamily.InterNetwork ? IPAddress.Any : IPAddress.IPv6Any, 0));
                lock (Senders)
                {
                    Senders.Add(((IPEndPoint)received.RemoteEndPoint).Address.ToString());
                }

                if (answer?.Invoke(buffer[..received.ReceivedBytes]) is { } reply)
                {
                    await _socket.SendToAsync(reply, received.RemoteEndPoint);
                }
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Closed.
        }
    }
}

/// <summary>A DNS resolver with one answer: every name has the address of the internet's listener.</summary>
internal static class Resolver
{
    public static byte[]? Answer(byte[] query)
    {
        // RFC 1035: a header of 12 bytes, then the question: a name that ends with a zero byte, two bytes of type, two bytes of class.
        var end = Array.IndexOf(query, (byte)0, 12) + 5;
        if (query.Length < 17 || end > query.Length)
        {
            return null;
        }

        var isAddress = query[end - 3] == 1;
        byte[] header = [query[0], query[1], 0x81, 0x80, 0, 1, 0, (byte)(isAddress ? 1 : 0), 0, 0, 0, 0];
        byte[] record = [0xC0, 0x0C, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, .. IPAddress.Parse(TestWorld.InternetAddress).GetAddressBytes()];
        return [.. header, .. query[12..end], .. isAddress ? record : []];
    }
}
