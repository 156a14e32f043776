using System.Net.Security;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Pandora.Engine;

namespace Pandora.Server.Hosting.Tls;

/// <summary>Lets the API's address speak TLS, and by ALPN HTTP/2, where the settings name a certificate.</summary>
internal static class TlsListener
{
    /// <summary>Checks that the settings for TLS and the address belong together.</summary>
    /// <exception cref="StartupException">One is there without the other.</exception>
    public static void Check(ServerOptions options)
    {
        var isHttps = options.Listen.StartsWith("https://", StringComparison.OrdinalIgnoreCase);
        var (hasCertificate, hasKey) = (options.TlsCertificate.Length > 0, options.TlsKey.Length > 0);
        if (hasCertificate != hasKey)
        {
            throw new StartupException(
                $"{(hasCertificate ? "PANDORA_TLS_CERTIFICATE" : "PANDORA_TLS_KEY")} is set, and "
                    + $"{(hasCertificate ? "PANDORA_TLS_KEY" : "PANDORA_TLS_CERTIFICATE")} is not: TLS needs both");
        }

        if (isHttps && !hasCertificate)
        {
            throw new StartupException(
                $"PANDORA_LISTEN={options.Listen} needs PANDORA_TLS_CERTIFICATE and PANDORA_TLS_KEY: './pandora tls init' makes both for a "
                    + "private network");
        }

        if (!isHttps && hasCertificate)
        {
            throw new StartupException(
                $"PANDORA_TLS_CERTIFICATE is set, and PANDORA_LISTEN={options.Listen} does not use it: write https://");
        }
    }

    /// <summary>Adds TLS to the API's address.</summary>
    /// <param name="services">The services.</param>
    /// <param name="options">The settings, which were checked.</param>
    /// <param name="port">Port of the API's address. The address for metrics, which has another port, speaks no TLS.</param>
    public static void AddTls(this IServiceCollection services, ServerOptions options, int port)
    {
        if (options.TlsCertificate.Length == 0)
        {
            return;
        }

        services.AddSingleton<TlsCertificate>();
        services.AddHostedService(s => s.GetRequiredService<TlsCertificate>());
        services.AddOptions<KestrelServerOptions>().Configure<TlsCertificate>((kestrel, certificate) =>
            kestrel.ConfigureEndpointDefaults(endpoint =>
            {
                if (endpoint.IPEndPoint is null || endpoint.IPEndPoint.Port == port)
                {
                    endpoint.UseHttps(new TlsHandshakeCallbackOptions
                    {
                        // The certificate of the moment, which may have been renewed.
                        OnConnection = _ => ValueTask.FromResult(
                            new SslServerAuthenticationOptions { ServerCertificateContext = certificate.Context }),
                    });
                }
            }));
    }
}
