using System.Net;
using System.Net.Sockets;
using System.Text;
using Pandora.TestHost;

namespace Pandora.HostTests.World;

/// <summary>Serves the files of a directory over HTTP in a namespace, with just enough of HTTP for apt.</summary>
internal sealed class FileServer : IDisposable
{
    private readonly Socket _socket;
    private readonly string _directory;

    public FileServer(NetworkNamespace place, IPAddress address, int port, string directory)
    {
        _directory = directory;
        _socket = place.Run(() =>
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(new IPEndPoint(address, port));
            socket.Listen();
            return socket;
        });
        _ = AcceptAsync();
    }

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
        await using var stream = new NetworkStream(client, ownsSocket: true);
        using var reader = new StreamReader(stream, leaveOpen: true);
        while (await reader.ReadLineAsync() is { Length: > 0 } request)
        {
            while (await reader.ReadLineAsync() is { Length: > 0 })
            {
                // The headers are not needed.
            }

            var path = Path.Combine(_directory, Path.GetFileName(Uri.UnescapeDataString(request.Split(' ')[1])));
            var body = File.Exists(path) ? await File.ReadAllBytesAsync(path) : [];
            await stream.WriteAsync(
                Encoding.ASCII.GetBytes(
                    $"HTTP/1.1 {(File.Exists(path) ? "200 OK" : "404 Not Found")}\r\nContent-Length: {body.Length}\r\n\r\n"));
            await stream.WriteAsync(body);
        }
    }
}
