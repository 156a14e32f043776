using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Server.Api;
using Pandora.Server.Auth;

namespace Pandora.Server.Hosting;

/// <summary>A second address that serves only <c>/metrics</c>, for a Prometheus that cannot reach the API's address.</summary>
internal static class MetricsListener
{
    /// <summary>Checks the address; null when none is set.</summary>
    /// <param name="options">The settings.</param>
    /// <param name="needsKey">Whether requests need a key in any case.</param>
    /// <exception cref="StartupException">
    /// The setting is not an address, has the port of the API, or is not loopback while no key is set.
    /// </exception>
    public static Uri? Check(ServerOptions options, bool needsKey)
    {
        if (options.MetricsKey is { Length: > 0 and < Key.LeastLength })
        {
            throw new StartupException("PANDORA_METRICS_KEY has fewer than 16 characters; 'openssl rand -hex 20' makes a good one");
        }

        if (options.MetricsListen.Length == 0)
        {
            return null;
        }

        // Port 0 means any free port, but requests for metrics are recognised by their port.
        if (!ListenAddress.TryParse(options.MetricsListen, out var address) || address.Port == 0)
        {
            throw new StartupException(
                $"PANDORA_METRICS_LISTEN: '{options.MetricsListen}' is not an address such as http://127.0.0.1:9464");
        }

        if (Uri.TryCreate(options.Listen, UriKind.Absolute, out var api) && api.Port == address.Port)
        {
            throw new StartupException(
                $"PANDORA_METRICS_LISTEN={options.MetricsListen} has the port of PANDORA_LISTEN, which serves /metrics anyway: "
                    + "choose another port");
        }

        return ListenAddress.IsLoopback(address) || options.MetricsKey.Length > 0 || needsKey
            ? address
            : throw new StartupException(
                $"PANDORA_METRICS_LISTEN={options.MetricsListen} is not a loopback address, so a scraper must send a key: set "
                    + "PANDORA_METRICS_KEY, or make one with './pandora key create --role metrics'");
    }

    /// <summary>Handles requests on the port for metrics separately from those for the API.</summary>
    public static void UseMetricsListener(this WebApplication app, ServerOptions options, bool needsKey)
    {
        if (Check(options, needsKey) is not { } address)
        {
            return;
        }

        app.MapWhen(c => c.Connection.LocalPort == address.Port, metrics =>
        {
            // On other addresses a key is needed, which a web page in a browser does not have.
            if (ListenAddress.IsLoopback(address))
            {
                metrics.UseAllowedHosts();
            }

            metrics.UseMiddleware<ApiKeys>();
            if (Telemetry.IsEnabled)
            {
                metrics.UseOpenTelemetryPrometheusScrapingEndpoint();
            }

            // All other paths, and all paths when metrics are off: this address does not serve the API.
            metrics.Run(c => Problems.Create(ErrorCodes.NotFound, "this address serves /metrics and nothing else").ExecuteAsync(c));
        });
    }
}
