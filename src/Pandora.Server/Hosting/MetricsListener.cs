using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Server.Api;
using Pandora.Server.Auth;

namespace Pandora.Server.Hosting;

/// <summary>A second address that serves <c>/metrics</c> and nothing else, for a Prometheus that cannot reach the API's.</summary>
internal static class MetricsListener
{
    /// <summary>Checks the address; null when none is set.</summary>
    /// <exception cref="StartupException">It is no address, shares the API's port, or is not loopback and nobody would have to show a
    /// key.</exception>
    public static Uri? Check(ServerOptions options)
    {
        if (options.MetricsKey is { Length: > 0 and < 16 })
        {
            throw new StartupException("PANDORA_METRICS_KEY has fewer than 16 characters; 'openssl rand -hex 20' makes a good one");
        }

        if (options.MetricsListen.Length == 0)
        {
            return null;
        }

        // Port 0 would be any, and what comes in is told by its port.
        if (!ListenAddress.TryParse(options.MetricsListen, out var address) || address.Port == 0)
        {
            throw new StartupException(
                $"PANDORA_METRICS_LISTEN: '{options.MetricsListen}' is not an address such as http://127.0.0.1:9464"
            );
        }

        if (ListenAddress.TryParse(options.Listen, out var api) && api.Port == address.Port)
        {
            throw new StartupException(
                $"PANDORA_METRICS_LISTEN={options.MetricsListen} has the port of PANDORA_LISTEN, where /metrics is served anyway: "
                    + "choose another");
        }

        return ListenAddress.IsLoopback(address) || options.MetricsKey.Length > 0 || options.Keys.Count > 0
            ? address
            : throw new StartupException(
                $"PANDORA_METRICS_LISTEN={options.MetricsListen} is not a loopback address, so a scraper must show a key: set "
                    + "PANDORA_METRICS_KEY");
    }

    /// <summary>Sends what comes in by the metrics' port a way of its own.</summary>
    public static void UseMetricsListener(this WebApplication app, ServerOptions options)
    {
        if (Check(options) is not { } address)
        {
            return;
        }

        app.MapWhen(c => c.Connection.LocalPort == address.Port, metrics =>
        {
            // Elsewhere a key is asked for, and a page in a browser has none.
            if (ListenAddress.IsLoopback(address))
            {
                metrics.UseAllowedHosts();
            }

            metrics.UseMiddleware<ApiKeys>();
            if (Telemetry.IsEnabled)
            {
                metrics.UseOpenTelemetryPrometheusScrapingEndpoint();
            }

            // Whatever else is asked for here, and everything when there are no metrics: the API is not behind this address.
            metrics.Run(c => Problems.Create(ErrorCodes.NotFound, "this address serves /metrics and nothing else").ExecuteAsync(c));
        });
    }
}
