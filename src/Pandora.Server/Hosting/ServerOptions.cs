using System.ComponentModel.DataAnnotations;

namespace Pandora.Server.Hosting;

/// <summary>Where the audit goes.</summary>
public enum AuditTarget
{
    /// <summary>Into files of its own, and into the log.</summary>
    File,

    /// <summary>Into the log only.</summary>
    Log,
}

/// <summary>Settings of the HTTP server. They are named and set like the engine's.</summary>
public sealed class ServerOptions
{
    /// <summary>
    /// Address to listen on, such as <c>http://127.0.0.1:8000</c>, or with <see cref="TlsCertificate"/> <c>https://127.0.0.1:8443</c>. An
    /// address that is not loopback needs <see cref="ApiKeys"/>.
    /// </summary>
    [Required]
    public string Listen { get; set; } = "http://127.0.0.1:8000";

    /// <summary>
    /// File with the certificate for TLS as PEM, followed by those that sign it. The address must begin with <c>https://</c> then. A file
    /// that changes is read again within a minute.
    /// </summary>
    public string TlsCertificate { get; set; } = "";

    /// <summary>File with the key of <see cref="TlsCertificate"/> as PEM, without a passphrase.</summary>
    public string TlsKey { get; set; } = "";

    /// <summary>
    /// Keys that clients may send as <c>Authorization: Bearer</c> or <c>X-API-Key</c>, comma-separated, each at least 16 characters. Empty:
    /// clients need no key.
    /// </summary>
    public string ApiKeys { get; set; } = "";

    /// <summary>Listen on addresses that are not loopback although emulation is not a security boundary.</summary>
    public bool AllowEmulated { get; set; }

    /// <summary>Names that a request's Host header may have besides the address and localhost, comma-separated.</summary>
    public string AllowedHosts { get; set; } = "";

    /// <summary>
    /// Domain of previews, such as <c>pandora-previews.example</c>: names below it must lead to this server by a proxy that speaks HTTPS
    /// with a wildcard certificate. A port, as in <c>pandora-previews.example:8443</c>, is only for the addresses that Pandora writes. It
    /// must be a registrable domain of its own, which nothing else uses. Empty: previews have only names below <c>localhost</c>.
    /// </summary>
    public string PreviewDomain { get; set; } = "";

    /// <summary>
    /// Largest number of connections that may be open at once, on all addresses together: 1 to 100,000. When so many are open, the oldest
    /// connection without a valid key (if no keys are set: without a request) is closed for a new connection. 0: the limit of descriptors
    /// less those that the microVMs need, 64 to 8,192.
    /// </summary>
    [Range(0, 100_000)]
    public int MaxConnections { get; set; }

    /// <summary>
    /// Largest number of connections that may be open at once from one address, or one /64 of IPv6: 1 to 100,000; 0: no bound. Loopback
    /// and <see cref="Proxies"/> are exempt.
    /// </summary>
    [Range(0, 100_000)]
    public int MaxConnectionsPerAddress { get; set; } = 256;

    /// <summary>
    /// Addresses and ranges of proxies before the server, comma-separated, such as <c>10.1.2.3,10.9.0.0/24</c>. They are exempt from
    /// <see cref="MaxConnectionsPerAddress"/>, because many clients connect through them.
    /// </summary>
    public string Proxies { get; set; } = "";

    /// <summary>
    /// A second address that serves only <c>/metrics</c>, such as <c>http://192.0.2.7:9464</c>. Empty: none. An address that is not
    /// loopback needs <see cref="MetricsKey"/> or <see cref="ApiKeys"/>.
    /// </summary>
    public string MetricsListen { get; set; } = "";

    /// <summary>
    /// A key that opens only <c>/metrics</c>, at least 16 characters. Empty: <c>/metrics</c> needs one of <see cref="ApiKeys"/>, if those
    /// are set.
    /// </summary>
    public string MetricsKey { get; set; } = "";

    /// <summary>Format of log lines: <c>text</c> or <c>json</c>.</summary>
    public LogFormat LogFormat { get; set; } = LogFormat.Text;

    /// <summary>
    /// Where the audit, one line for each operation, goes: <c>file</c> (into files in <c>audit</c> in the data directory, and into the log)
    /// or <c>log</c> (into the log only; then it has no command's text, whatever a project says).
    /// </summary>
    public AuditTarget Audit { get; set; } = AuditTarget.File;

    /// <summary>MiB after which the audit begins a new file: 1 to 10,000.</summary>
    [Range(1, 10_000)]
    public int AuditFileSize { get; set; } = 64;

    /// <summary>Files of the audit that are kept, with the newest: 2 to 1,000. The oldest is deleted when there are more.</summary>
    [Range(2, 1000)]
    public int AuditFiles { get; set; } = 8;

    /// <summary>The keys of <see cref="ApiKeys"/>, one by one.</summary>
    public IReadOnlyList<string> Keys => ApiKeys.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
}
