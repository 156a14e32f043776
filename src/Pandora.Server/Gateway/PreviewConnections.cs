using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Text;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;

namespace Pandora.Server.Gateway;

/// <summary>
/// The HTTP client that speaks to programs in guests. Its connections are those of <see cref="Sandbox.ConnectPortAsync"/>, and are kept for
/// the next request by the sandbox's id and the port. No other sandbox ever has the id.
/// </summary>
internal sealed class PreviewConnections : IDisposable
{
    /// <summary>Most KiB of an answer's headers.</summary>
    public const int MaxHeadersKib = 64;

    /// <summary>Time within which a program must accept a connection.</summary>
    public static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(10);

    // A name that begins with an id alone could be read as a number, which is an address.
    private const string Suffix = ".guest";
    private readonly SandboxRegistry _registry;

    /// <summary>Creates the client.</summary>
    [SuppressMessage("Reliability", "CA2000", Justification = "The client disposes of the handler.")]
    public PreviewConnections(SandboxRegistry registry)
    {
        _registry = registry;
        Client = new HttpMessageInvoker(new SocketsHttpHandler
        {
            ConnectCallback = ConnectAsync,
            ConnectTimeout = ConnectTimeout,
            PooledConnectionIdleTimeout = TimeSpan.FromSeconds(30),
            MaxResponseHeadersLength = MaxHeadersKib,
            // Nothing more is read of an answer that is not wanted any longer.
            MaxResponseDrainSize = 0,
            EnableMultipleHttp2Connections = true,
            UseProxy = false,
            UseCookies = false,
            AllowAutoRedirect = false,
            AutomaticDecompression = DecompressionMethods.None,
            // The server's traces are not the guest's.
            ActivityHeadersPropagator = null,
            // As the web server reads the headers of requests.
            RequestHeaderEncodingSelector = (_, _) => Encoding.UTF8,
        });
    }

    /// <summary>Sends requests to the programs.</summary>
    public HttpMessageInvoker Client { get; }

    /// <summary>The address by which <see cref="Client"/> knows a port of a sandbox. It is no host name.</summary>
    public static string PrefixOf(PreviewHost host) => $"http://{host.Id}{Suffix}:{host.Port}";

    /// <inheritdoc/>
    public void Dispose() => Client.Dispose();

    private async ValueTask<Stream> ConnectAsync(SocketsHttpConnectionContext context, CancellationToken cancellationToken)
    {
        var end = context.DnsEndPoint;
        return await new ProjectSandboxes(_registry).Get(end.Host[..^Suffix.Length])
            .ConnectPortAsync(end.Port, PortUse.Preview, cancellationToken);
    }
}
