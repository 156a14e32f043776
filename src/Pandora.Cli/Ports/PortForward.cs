using System.Globalization;
using System.Net;

namespace Pandora.Cli.Ports;

/// <summary>A port of this host that stands for one of a sandbox.</summary>
/// <param name="LocalPort">The port of this host; 0 for any that is free.</param>
/// <param name="Port">The port in the sandbox.</param>
internal readonly record struct PortForward(int LocalPort, int Port)
{
    /// <summary>Reads <c>LOCAL:PORT</c> or <c>PORT</c>.</summary>
    /// <exception cref="UsageException">It is neither.</exception>
    public static PortForward Parse(string text)
    {
        var colon = text.IndexOf(':');
        var (local, port) = colon < 0 ? (text, text) : (text[..colon], text[(colon + 1)..]);
        return TryPort(local, colon < 0 ? 1 : 0, out var localNumber) && TryPort(port, 1, out var number)
            ? new(localNumber, number)
            : throw new UsageException($"'{text}' is neither a port nor LOCAL:PORT, such as 8080:3000");
    }

    /// <summary>Reads a port.</summary>
    public static bool TryPort(string text, int least, out int port) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out port) && port >= least && port <= IPEndPoint.MaxPort;
}

/// <summary>One line of <c>forward --json</c>.</summary>
/// <param name="Address">Address of this host.</param>
/// <param name="LocalPort">Port of this host.</param>
/// <param name="Port">Port in the sandbox.</param>
internal sealed record ForwardedPort(string Address, int LocalPort, int Port);
