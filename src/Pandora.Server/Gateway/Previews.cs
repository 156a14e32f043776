using System.Text;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Pandora.Engine;
using Pandora.Server.Auth;
using Pandora.Server.Hosting;

namespace Pandora.Server.Gateway;

/// <summary>What the steps of a preview's request use.</summary>
internal sealed record PreviewServices(
    ServerOptions Options, Access Access, PreviewAccess Decisions, PreviewLinks Links, PreviewConnections Connections)
{
    /// <summary>The domain of previews without a port; empty when none is set.</summary>
    public string Domain { get; } = PreviewDomain.Of(Options);
}

/// <summary>Adds previews to the server.</summary>
internal static class Previews
{
    /// <summary>Adds the services of previews.</summary>
    public static IServiceCollection AddPreviews(this IServiceCollection services)
    {
        services.AddHttpForwarder();
        services.AddSingleton<PreviewAddresses>().AddSingleton<PreviewAccess>().AddSingleton<PreviewConnections>();
        services.AddSingleton<PreviewLinks>().AddSingleton<PreviewLinkMaker>().AddSingleton<PreviewServices>();
        services.AddSingleton<GuestForwarder>().AddSingleton<E2bForwarder>();
        services.AddHostedService(s => s.GetRequiredService<PreviewLinks>());
        // Guests answer with headers in any encoding; each byte passes as it is. A header still cannot have control characters.
        services.Configure<KestrelServerOptions>(o => o.ResponseHeaderEncodingSelector = _ => Encoding.Latin1);
        // The forwarder warns of each answer that a guest breaks off, which guests may do as often as they like. The metrics count them.
        services.AddLogging(l => l.AddFilter("Yarp.ReverseProxy", LogLevel.None));
        return services;
    }

    /// <summary>Serves previews. Must come before everything that routes or refuses a request by the API's rules.</summary>
    /// <param name="app">The server.</param>
    /// <param name="options">The settings: the address for metrics serves no previews.</param>
    /// <param name="needsKey">Whether requests need a key in any case.</param>
    /// <exception cref="StartupException">The address for metrics is invalid.</exception>
    public static void UsePreviews(this WebApplication app, ServerOptions options, bool needsKey)
    {
        var metricsPort = MetricsListener.Check(options, needsKey)?.Port;
        app.UseWhen(c => c.Connection.LocalPort != metricsPort, previews => previews.UseMiddleware<PreviewForwarder>());
    }
}
