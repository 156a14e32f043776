using Microsoft.Extensions.DependencyInjection;

namespace Pandora.Client;

/// <summary>Adds the client to a program's services.</summary>
public static class ServiceCollectionExtensions
{
    /// <summary>Adds <see cref="PandoraClient"/> on an <see cref="HttpClient"/> of <c>IHttpClientFactory</c>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the client's settings.</param>
    /// <returns>A builder for message handlers of the program's own.</returns>
    public static IHttpClientBuilder AddPandoraClient(this IServiceCollection services, Action<PandoraClientOptions> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        var options = new PandoraClientOptions();
        configure(options);
        options.Check();
        return services
            .AddHttpClient(
                nameof(PandoraClient),
                http =>
                {
                    // Set here, so that no default of the program's other clients holds: the key goes to this address only.
                    http.BaseAddress = options.Url;
                    http.Timeout = Timeout.InfiniteTimeSpan;
                })
            .AddTypedClient(http => new PandoraClient(http, options));
    }

    /// <summary>Adds <see cref="PandoraClient"/> on an <see cref="HttpClient"/> of <c>IHttpClientFactory</c>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="url">Address of the server.</param>
    /// <param name="apiKey">API key, where the server needs one.</param>
    /// <returns>A builder for message handlers of the program's own.</returns>
    public static IHttpClientBuilder AddPandoraClient(this IServiceCollection services, string url, string? apiKey = null) =>
        services.AddPandoraClient(options => (options.Url, options.ApiKey) = (new Uri(url), apiKey));
}
