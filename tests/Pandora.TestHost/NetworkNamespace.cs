using System.Diagnostics.CodeAnalysis;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Pandora.TestHost;

/// <summary>A network namespace, entered by one thread at a time: a socket made in it belongs to it for good (setns(2)).</summary>
internal sealed partial class NetworkNamespace(string name)
{
    private const int NetworkKind = 0x40000000; // CLONE_NEWNET

    public string Name => name;

    public string Path => $"/run/netns/{name}";

    public T Run<T>(Func<T> function)
    {
        var result = default(T)!;
        Exception? error = null;
        var thread = new Thread(() =>
        {
            try
            {
                using var handle = File.OpenHandle(Path);
                if (SetNamespace((int)handle.DangerousGetHandle(), NetworkKind) != 0)
                {
                    throw new IOException($"{Path} could not be entered");
                }

                result = function();
            }
            catch (Exception e)
            {
                error = e;
            }
        });
        thread.Start();
        thread.Join();
        return error is null ? result : throw new InvalidOperationException($"in {name}: {error.Message}", error);
    }

    /// <summary>A client for a server in this namespace: every connection of the client is a socket of the namespace.</summary>
    [SuppressMessage("Reliability", "CA2000", Justification = "the client disposes its handler, and the stream its socket")]
    public HttpClient CreateHttpClient(string baseAddress)
    {
        var handler = new SocketsHttpHandler
        {
            ConnectCallback = async (context, token) =>
            {
                var socket = Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true });
                await socket.ConnectAsync(context.DnsEndPoint, token);
                return new NetworkStream(socket, ownsSocket: true);
            },
        };
        return new HttpClient(handler) { BaseAddress = new Uri(baseAddress) };
    }

    [LibraryImport("libc", EntryPoint = "setns", SetLastError = true)]
    private static partial int SetNamespace(int fd, int kind);
}
