using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Pandora.Server.Hosting.Tls;

/// <summary>
/// A certificate authority of one's own, for a private network: it signs one certificate for a domain and every name directly below it.
/// Clients must be told to trust it.
/// </summary>
internal static class PrivateAuthority
{
    /// <summary>Days for which the authority is valid.</summary>
    public const int AuthorityDays = 3650;

    private static readonly Oid ServerAuthentication = new("1.3.6.1.5.5.7.3.1");

    /// <summary>Makes an authority.</summary>
    public static X509Certificate2 Create(string domain, DateTimeOffset now)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN=Pandora private authority for {domain}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, true, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        return request.CreateSelfSigned(now.AddHours(-1), now.AddDays(AuthorityDays));
    }

    /// <summary>Makes a certificate for a domain, the names directly below it, and this machine.</summary>
    /// <param name="authority">Signs it.</param>
    /// <param name="domain">The domain.</param>
    /// <param name="now">The time.</param>
    /// <param name="days">Days for which it is valid. It does not outlive the authority.</param>
    public static (X509Certificate2 Certificate, ECDsa Key) Sign(
        X509Certificate2 authority, string domain, DateTimeOffset now, int days)
    {
        var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={domain}", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(domain);
        names.AddDnsName($"*.{domain}");
        names.AddDnsName("localhost");
        names.AddIpAddress(IPAddress.Loopback);
        names.AddIpAddress(IPAddress.IPv6Loopback);
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([ServerAuthentication], false));
        request.CertificateExtensions.Add(
            X509AuthorityKeyIdentifierExtension.CreateFromCertificate(
                authority, includeKeyIdentifier: true, includeIssuerAndSerial: false));
        var (begin, end) = (now.AddHours(-1), now.AddDays(days));
        var first = new DateTimeOffset(authority.NotBefore.ToUniversalTime());
        var last = new DateTimeOffset(authority.NotAfter.ToUniversalTime());
        var certificate = request.Create(
            authority, begin > first ? begin : first, end < last ? end : last, RandomNumberGenerator.GetBytes(16));
        return (certificate, key);
    }
}
