using System.CommandLine;
using System.Globalization;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Pandora.Engine;
using Pandora.Server.Auth;
using Pandora.Server.Gateway;
using Pandora.Server.Hosting;
using Pandora.Server.Hosting.Tls;

namespace Pandora.Server.Commands;

/// <summary>
/// <c>tls init</c>: makes an authority of one's own and a certificate for a domain, so that the server can speak TLS in a private network.
/// </summary>
internal static class TlsCommand
{
    public static Command Create()
    {
        var domain = new Option<string>("--domain")
        {
            Description = "The domain, such as sandbox.test: the certificate is for it, every name directly below it, and localhost",
            Required = true,
        };
        var days = new Option<int>("--days")
        {
            Description = "Days for which the certificate is valid: 1 to 3650",
            DefaultValueFactory = _ => 397,
        };
        var init = new Command(
            "init", "Make an authority and a certificate for a domain. Run it again to renew the certificate: the authority stays")
        {
            domain, days,
        };
        init.SetAction(result =>
        {
            var directory = Path.Combine(Settings.Read<EngineOptions>(Settings.File()).DataDir, "tls");
            Init(
                directory, result.GetRequiredValue(domain), result.GetValue(days), TimeProvider.System.GetUtcNow(), Console.Out,
                Console.Error);
        });
        return new Command("tls", "Make certificates for a private network") { init };
    }

    /// <summary>Makes the files and says what to do with them.</summary>
    /// <exception cref="StartupException">The domain or the number of days is none, or a file cannot be read.</exception>
    /// <exception cref="AccessFileException">A file cannot be written.</exception>
    internal static void Init(string directory, string domain, int days, DateTimeOffset now, TextWriter output, TextWriter error)
    {
        if (days is < 1 or > PrivateAuthority.AuthorityDays)
        {
            throw new StartupException($"--days must be between 1 and {PrivateAuthority.AuthorityDays}, and is {days}");
        }

        if (!PreviewDomain.IsName(domain) || !domain.Contains('.'))
        {
            throw new StartupException($"--domain: '{domain}' is not a DNS name in lower case, such as sandbox.test");
        }

        Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        var (authorityPath, authorityKeyPath) = (Path.Combine(directory, $"{domain}.ca.crt"), Path.Combine(directory, $"{domain}.ca.key"));
        var isNew = !File.Exists(authorityPath);
        using var authority = isNew ? PrivateAuthority.Create(domain, now) : Read(authorityPath, authorityKeyPath);
        if (isNew)
        {
            using var authorityKey = authority.GetECDsaPrivateKey()!;
            // The key first: an authority without its key would be of no use.
            Write(authorityKeyPath, authorityKey.ExportPkcs8PrivateKeyPem());
            Write(authorityPath, authority.ExportCertificatePem());
        }

        var (certificate, key) = PrivateAuthority.Sign(authority, domain, now, days);
        using (certificate)
        using (key)
        {
            var (path, keyPath) = (Path.Combine(directory, $"{domain}.crt"), Path.Combine(directory, $"{domain}.key"));
            Write(keyPath, key.ExportPkcs8PrivateKeyPem());
            Write(path, certificate.ExportCertificatePem() + "\n" + authority.ExportCertificatePem());
            var end = certificate.NotAfter.ToUniversalTime().ToString("yyyy-MM-dd", CultureInfo.InvariantCulture);
            error.WriteLine($"{(isNew ? "made" : "renewed with the same authority")}; the certificate ends on {end}. Set:");
            output.WriteLine($"PANDORA_TLS_CERTIFICATE={path}");
            output.WriteLine($"PANDORA_TLS_KEY={keyPath}");
            error.WriteLine("and PANDORA_LISTEN=https://…. Clients must trust the authority. Its certificate is no secret, but only");
            error.WriteLine("root can read it here: copy it to each client.");
            error.WriteLine($"  sudo cat {authorityPath} > pandora-ca.crt");
            error.WriteLine("  curl --cacert pandora-ca.crt https://…");
            error.WriteLine("  SSL_CERT_FILE=$PWD/pandora-ca.crt ./pandora …; NODE_EXTRA_CA_CERTS=$PWD/pandora-ca.crt node …");
            error.WriteLine($"Keep {authorityKeyPath} secret: everybody who has it can pretend to be every server that these clients use.");
        }
    }

    private static X509Certificate2 Read(string path, string keyPath)
    {
        try
        {
            return X509Certificate2.CreateFromPemFile(path, keyPath);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CryptographicException)
        {
            throw new StartupException(
                $"the authority {path} with its key {keyPath} cannot be read: {e.Message}. Nothing was changed; to make another authority, "
                    + "delete both");
        }
    }

    // All files are readable for root only, as the directory is.
    private static void Write(string path, string text) =>
        AccessStore.Write(path, Encoding.UTF8.GetBytes(text.TrimEnd() + "\n"), mustLast: true);
}
