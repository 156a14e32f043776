namespace Pandora.Client;

/// <summary>Settings of a <see cref="PandoraClient"/>.</summary>
public sealed class PandoraClientOptions
{
    /// <summary>Address of the server. A path is kept: with <c>https://host/pandora</c> requests go to
    /// <c>https://host/pandora/sandboxes</c>. Default: <c>http://127.0.0.1:8000</c>.</summary>
    public Uri Url { get; set; } = new("http://127.0.0.1:8000");

    /// <summary>API key, sent as a bearer token. Default: none.</summary>
    public string? ApiKey { get; set; }

    /// <summary>
    /// Longest time that one call may spend on retries, zero or more. A call is retried after the answer's <c>Retry-After</c> when the
    /// server did nothing of it: status 429, or code <c>recovering</c> (the server has just started). Code <c>too_many_attempts</c> (429,
    /// too many wrong keys) is not retried: a wrong key stays wrong. <see cref="TimeSpan.Zero"/> turns retries off. Default: 30 s.
    /// </summary>
    public TimeSpan MaxRetryTime { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// Longest time that a stream of output, a wait, an input or a terminal spends on one loss of its connection, zero or more: the client
    /// connects again, from the byte where it was, also while the server is down or restarts. <see cref="TimeSpan.Zero"/> turns this off.
    /// Default: 60 s.
    /// </summary>
    public TimeSpan MaxReconnectTime { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>
    /// Whether the client keeps the sandboxes that it creates alive until they are disposed or detached, or this process ends. Without it a
    /// sandbox ends when it was idle for its idle timeout. <see cref="CreateSandboxOptions.KeepAlive"/> overrides it. Default: true.
    /// </summary>
    public bool KeepAlive { get; set; } = true;

    /// <summary>Clock of retries, reconnections and keeping alive. Default: the system's.</summary>
    public TimeProvider TimeProvider { get; set; } = TimeProvider.System;

    internal void Check(Uri? baseAddress = null)
    {
        var url = baseAddress ?? Url;
        ArgumentNullException.ThrowIfNull(url);
        ArgumentNullException.ThrowIfNull(TimeProvider);
        if (!url.IsAbsoluteUri || url.Scheme is not ("http" or "https") || url.UserInfo.Length + url.Query.Length + url.Fragment.Length > 0)
        {
            throw new ArgumentException("the address must be http://HOST or https://HOST, with a path at most; the key goes into ApiKey");
        }

        if (ApiKey?.Any(c => c is <= ' ' or > '~') == true)
        {
            throw new ArgumentException("the API key has a character that is not allowed in a header, such as a space or a line break");
        }

        if (MaxRetryTime < TimeSpan.Zero)
        {
            throw new ArgumentException($"MaxRetryTime must not be negative: {MaxRetryTime}");
        }

        if (MaxReconnectTime < TimeSpan.Zero)
        {
            throw new ArgumentException($"MaxReconnectTime must not be negative: {MaxReconnectTime}");
        }
    }
}
