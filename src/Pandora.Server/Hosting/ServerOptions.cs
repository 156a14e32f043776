using System.ComponentModel.DataAnnotations;

namespace Pandora.Server.Hosting;

/// <summary>Settings of the HTTP server; named and set like the engine's.</summary>
public sealed class ServerOptions
{
    /// <summary>Address to serve on, such as <c>http://127.0.0.1:8000</c>. Any but a loopback address needs <see cref="ApiKeys"/>.</summary>
    [Required]
    public string Listen { get; set; } = "http://127.0.0.1:8000";

    /// <summary>Keys that clients may show as <c>Authorization: Bearer</c> or <c>X-API-Key</c>, comma-separated, each at least 16 characters. Empty: none is asked for.</summary>
    public string ApiKeys { get; set; } = "";

    /// <summary>Serve on other than loopback addresses although emulation is no security boundary.</summary>
    public bool AllowEmulated { get; set; }

    /// <summary>Names, besides the address's own and localhost, that a request's Host header may hold, comma-separated.</summary>
    public string AllowedHosts { get; set; } = "";

    /// <summary>A second address that serves <c>/metrics</c> and nothing else, such as <c>http://192.0.2.7:9464</c>. Empty: none. Any but a loopback address needs <see cref="MetricsKey"/> or <see cref="ApiKeys"/>.</summary>
    public string MetricsListen { get; set; } = "";

    /// <summary>A key that opens <c>/metrics</c> and nothing else, at least 16 characters. Empty: <see cref="ApiKeys"/>, where set, are asked for there too.</summary>
    public string MetricsKey { get; set; } = "";

    /// <summary>How log lines look: <c>text</c> or <c>json</c>.</summary>
    public LogFormat LogFormat { get; set; } = LogFormat.Text;

    /// <summary>The keys.</summary>
    public IReadOnlyList<string> Keys => ApiKeys.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
}
