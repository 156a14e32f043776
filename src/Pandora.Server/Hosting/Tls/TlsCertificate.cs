using System.Diagnostics.CodeAnalysis;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Pandora.Engine;

namespace Pandora.Server.Hosting.Tls;

/// <summary>
/// The certificate with which the server speaks TLS, and its key, from two PEM files. A certificate that is renewed is used without a
/// restart: the files are looked at once a minute, and what they had last stays in use while they cannot be read.
/// </summary>
internal sealed partial class TlsCertificate : IHostedService, IDisposable
{
    /// <summary>Time between two looks at the files.</summary>
    public static readonly TimeSpan Interval = TimeSpan.FromMinutes(1);

    private readonly string _path, _keyPath;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private volatile SslStreamCertificateContext _context;
    private string _fingerprint;
    private string? _problem;
    private ITimer? _timer;

    /// <summary>Reads the files.</summary>
    /// <param name="options">The settings, which name the files.</param>
    /// <param name="time">Clock of the looks.</param>
    /// <param name="logger">Receives what changed, and what went wrong.</param>
    /// <exception cref="StartupException">A file cannot be read, the key is not the certificate's, or the certificate has
    /// ended.</exception>
    public TlsCertificate(ServerOptions options, TimeProvider time, ILogger<TlsCertificate> logger)
    {
        (_path, _keyPath, _time, _logger) = (options.TlsCertificate, options.TlsKey, time, logger);
        _fingerprint = Fingerprint();
        _context = Read();
        if (_context.TargetCertificate.NotAfter.ToUniversalTime() <= time.GetUtcNow())
        {
            throw new StartupException(
                $"PANDORA_TLS_CERTIFICATE={_path} ended at {_context.TargetCertificate.NotAfter.ToUniversalTime():u}: renew it");
        }
    }

    /// <summary>The certificate in use, with the certificates of its file that sign it.</summary>
    public SslStreamCertificateContext Context => _context;

    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken)
    {
        _timer = _time.CreateTimer(_ => Look(), null, Interval, Interval);
        LogInUse(_context.TargetCertificate.Subject, _context.TargetCertificate.NotAfter.ToUniversalTime());
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken)
    {
        Dispose();
        return Task.CompletedTask;
    }

    /// <summary>
    /// Reads the files again if they have changed. It never throws, because an exception in a timer's callback ends the server. Files that
    /// could not be used are read again at the next look, and a problem that stays the same is logged once.
    /// </summary>
    public void Look()
    {
        try
        {
            // Read first: a change during the reading is then seen at the next look.
            var fingerprint = Fingerprint();
            if (fingerprint != _fingerprint)
            {
                _context = Read();
                _fingerprint = fingerprint;
                LogInUse(_context.TargetCertificate.Subject, _context.TargetCertificate.NotAfter.ToUniversalTime());
            }

            _problem = null;
        }
        catch (Exception e)
        {
            // The two files may be written one after the other: then the next look finds both.
            if (e.Message != _problem)
            {
                LogKept(e.Message);
            }

            _problem = e.Message;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _timer?.Dispose();

    [SuppressMessage("Reliability", "CA2000", Justification = "The context holds the certificate, and connections may use it for long.")]
    private SslStreamCertificateContext Read()
    {
        try
        {
            var chain = new X509Certificate2Collection();
            chain.ImportFromPemFile(_path);
            return SslStreamCertificateContext.Create(X509Certificate2.CreateFromPemFile(_path, _keyPath), chain, offline: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new StartupException($"PANDORA_TLS_CERTIFICATE and PANDORA_TLS_KEY cannot be read: {e.Message}", e);
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException)
        {
            throw new StartupException(
                $"PANDORA_TLS_CERTIFICATE={_path} and PANDORA_TLS_KEY={_keyPath} are not a certificate and its key as PEM: {e.Message}", e);
        }
    }

    private string Fingerprint() => $"{Fingerprint(_path)} {Fingerprint(_keyPath)}";

    private static string Fingerprint(string path)
    {
        try
        {
            var file = new FileInfo(path);
            // A link, as certbot makes it, leads to another file after a renewal.
            var target = (file.Exists ? file.ResolveLinkTarget(returnFinalTarget: true) as FileInfo : null) ?? file;
            return target.Exists ? $"{target.FullName} {target.LastWriteTimeUtc.Ticks} {target.Length}" : "none";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The reading that follows fails, too, and names the settings.
            return e.Message;
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "TLS uses the certificate of {Subject}, which ends at {End:u}")]
    private partial void LogInUse(string subject, DateTime end);

    [LoggerMessage(Level = LogLevel.Error, Message = "The certificate that was used last stays in use: {Problem}")]
    private partial void LogKept(string problem);
}
