using System.Diagnostics.CodeAnalysis;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Security.Cryptography.X509Certificates;

namespace Pandora.TestHost;

/// <summary>A network namespace. A socket that a thread makes in it belongs to it for the socket's whole life (setns(2)).</summary>
internal sealed partial class NetworkNamespace(string name)
{
    private const int NetworkKind = 0x40000000; // CLONE_NEWNET

    public string Name => name;

    public string Path => $"/run/netns/{name}";

    /// <summary>Runs a function on a new thread that has entered the namespace.</summary>
    /// <exception cref="InvalidOperationException">The namespace cannot be entered, or the function failed.</exception>
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

    /// <summary>Creates a client for a server in this namespace: the client makes its sockets in the namespace.</summary>
    /// <param name="baseAddress">Address of the server.</param>
    /// <param name="chain">File with the server's certificate and its authority's, which the client trusts; null without TLS.</param>
    [SuppressMessage("Reliability", "CA2000", Justification = "the client disposes its handler, and the stream its socket")]
    public HttpClient CreateHttpClient(string baseAddress, string? chain = null)
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
        if (chain is not null)
        {
            X509Certificate2Collection trusted = [];
            trusted.ImportFromPemFile(chain);
            var policy = new X509ChainPolicy
            {
                TrustMode = X509ChainTrustMode.CustomRootTrust,
                RevocationMode = X509RevocationMode.NoCheck,
            };
            policy.CustomTrustStore.AddRange(trusted);
            handler.SslOptions.CertificateChainPolicy = policy;
        }

        return new HttpClient(handler) { BaseAddress = new Uri(baseAddress) };
    }

    [LibraryImport("libc", EntryPoint = "setns", SetLastError = true)]
    private static partial int SetNamespace(int fd, int kind);
}
