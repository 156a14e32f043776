using System.ComponentModel.DataAnnotations;

namespace Pandora.Server.Hosting;

/// <summary>Settings of the HTTP server; named and set like the engine's.</summary>
public sealed class ServerOptions
{
    /// <summary>
    /// Address to serve on, such as <c>http://127.0.0.1:8000</c>. Any but a loopback address needs <see cref="ApiKeys"/>.
    /// </summary>
    [Required]
    public string Listen { get; set; } = "http://127.0.0.1:8000";

    /// <summary>
    /// Keys that clients may show as <c>Authorization: Bearer</c> or <c>X-API-Key</c>, comma-separated, each at least 16 characters. Empty:
    /// none is asked for.
    /// </summary>
    public string ApiKeys { get; set; } = "";

    /// <summary>Serve on other than loopback addresses although emulation is no security boundary.</summary>
    public bool AllowEmulated { get; set; }

    /// <summary>Names, besides the address's own and localhost, that a request's Host header may hold, comma-separated.</summary>
    public string AllowedHosts { get; set; } = "";

    /// <summary>
    /// Most connections that may be open at once, on all addresses together: 1 to 100,000. When there are so many, the oldest that has
    /// shown no key (without keys: that has asked for nothing) is closed for the newcomer. 0: as many as the limit of descriptors leaves
    /// beside what the microVMs need, 64 to 8,192.
    /// </summary>
    [Range(0, 100_000)]
    public int MaxConnections { get; set; }

    /// <summary>Most connections that may be open at once from one address, or one /64 of IPv6: 1 to 100,000; 0: no bound. Loopback and
    /// <see cref="Proxies"/> are exempt.</summary>
    [Range(0, 100_000)]
    public int MaxConnectionsPerAddress { get; set; } = 256;

    /// <summary>Addresses and ranges of proxies before the server, comma-separated, such as <c>10.1.2.3,10.9.0.0/24</c>:
    /// <see cref="MaxConnectionsPerAddress"/> does not hold for them, because many clients come from there.</summary>
    public string Proxies { get; set; } = "";

    /// <summary>
    /// A second address that serves <c>/metrics</c> and nothing else, such as <c>http://192.0.2.7:9464</c>. Empty: none. Any but a loopback
    /// address needs <see cref="MetricsKey"/> or <see cref="ApiKeys"/>.
    /// </summary>
    public string MetricsListen { get; set; } = "";

    /// <summary>
    /// A key that opens <c>/metrics</c> and nothing else, at least 16 characters. Empty: <see cref="ApiKeys"/>, where set, are asked for
    /// there too.
    /// </summary>
    public string MetricsKey { get; set; } = "";

    /// <summary>How log lines look: <c>text</c> or <c>json</c>.</summary>
    public LogFormat LogFormat { get; set; } = LogFormat.Text;

    /// <summary>The keys.</summary>
    public IReadOnlyList<string> Keys => ApiKeys.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
}
