using Microsoft.Extensions.DependencyInjection;

namespace Pandora.Client;

/// <summary>Puts the client into a program's services.</summary>
public static class ServiceCollectionExtensions
{
    /// <summary>Adds <see cref="PandoraClient"/> on an <see cref="HttpClient"/> of <c>IHttpClientFactory</c>'s.</summary>
    /// <param name="services">The services.</param>
    /// <param name="url">The server.</param>
    /// <param name="apiKey">A key, where the server asks for one.</param>
    /// <returns>For handlers and policies of the program's own.</returns>
    public static IHttpClientBuilder AddPandoraClient(this IServiceCollection services, string url, string? apiKey = null) =>
        services.AddHttpClient<PandoraClient>(http =>
        {
            http.BaseAddress = new Uri(url);
            http.Timeout = Timeout.InfiniteTimeSpan;
            if (apiKey is not null)
            {
                http.DefaultRequestHeaders.Authorization = new("Bearer", apiKey);
            }
        });
}
