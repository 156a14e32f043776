using System.Diagnostics.CodeAnalysis;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.HostFiltering;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.TestHost;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Node;
using Pandora.Engine;
using Pandora.Engine.Projects;
using Pandora.Server.Api;
using Pandora.Server.Auth;
using Pandora.Server.Commands;
using Pandora.Server.Hosting;
using Pandora.Server.Hosting.Connections;
using Pandora.Server.Hosting.Tls;
using Pandora.Vmm;

namespace Pandora.Fakes;

/// <summary>The real HTTP API on a <see cref="FakeNode"/>, on a web server in memory or on a free port of loopback.</summary>
internal sealed class FakeServer : IAsyncDisposable
{
    public static readonly VmmCapabilities Tcg = new("QEMU", "7.2", "TCG", "a test says so");
    private readonly WebApplication _app;

    private FakeServer(FakeNode node, WebApplication app, HttpClient http)
    {
        Node = node;
        _app = app;
        Http = http;
    }

    public FakeNode Node { get; }

    public HttpClient Http { get; }

    /// <summary>The routes of the server, one for each method.</summary>
    public IReadOnlyList<(HttpMethod Method, string Path)> Routes =>
    [
        .. _app.Services.GetRequiredService<EndpointDataSource>().Endpoints.OfType<RouteEndpoint>()
            .SelectMany(e => (e.Metadata.GetMetadata<IHttpMethodMetadata>()?.HttpMethods ?? ["GET"])
                .Select(m => (HttpMethod.Parse(m), "/" + e.RoutePattern.RawText!.Trim('/')))),
    ];

    public ServerMetrics Metrics => _app.Services.GetRequiredService<ServerMetrics>();

    public ConnectionTable Connections => _app.Services.GetRequiredService<ConnectionTable>();

    public static async Task<FakeServer> StartAsync(ServerOptions? serverOptions = null, EngineOptions? options = null,
        bool onLoopback = false, ILoggerFactory? loggers = null, bool isRecovering = false, ConnectionLimits? limits = null,
        FindProject? projects = null, Func<Uri, HttpClient>? client = null)
    {
        serverOptions ??= new ServerOptions();
        var builder = WebApplication.CreateSlimBuilder();
        if (onLoopback)
        {
            builder.WebHost.UseUrls($"{(serverOptions.TlsCertificate.Length > 0 ? "https" : "http")}://127.0.0.1:0");
        }
        else
        {
            builder.WebHost.UseTestServer();
        }

        builder.Logging.ClearProviders();
        Access? access = null;
        projects ??= name => access?.FindProject(name) ?? new Project(name);
        var node = new FakeNode(options, loggers: loggers, isRecovering: isRecovering, projects: projects);
        builder.Services.AddSingleton(_ => node.Sandboxes);
        builder.Services.AddSingleton<Func<NodeStatus>>(() => node.Engine.Status);
        builder.Services.AddPandoraApi(node.Options, serverOptions, node.Time);
        builder.Services.AddTls(serverOptions, port: 0);
        builder.Services.AddSingleton(projects).AddSingleton(node.Meters);
        builder.Services.Configure<HostFilteringOptions>(o =>
            o.AllowedHosts = ListenAddress.AllowedHosts(serverOptions, new Uri("http://127.0.0.1:8000"))
        );
        if (loggers is not null)
        {
            builder.Services.AddSingleton(loggers);
        }

        if (limits is not null)
        {
            builder.Services.AddSingleton(limits);
        }

        var app = builder.Build();
        app.MapPandoraApi(serverOptions, needsKey: serverOptions.Keys.Count > 0);
        access = app.Services.GetRequiredService<Access>();
        await app.StartAsync();
        node.Metrics.CreateSeries([EngineOptions.DefaultTemplate], Problems.Counted);
        return new FakeServer(node, app, onLoopback ? (client ?? ClientOf)(new Uri(app.Urls.Single())) : app.GetTestClient());
    }

    // It closes the connection of an answer that it does not read to its end at once.
    [SuppressMessage("Reliability", "CA2000", Justification = "The client disposes of the handler.")]
    private static HttpClient ClientOf(Uri address) =>
        new(new SocketsHttpHandler { MaxResponseDrainSize = 0 }) { BaseAddress = address };

    public async Task<string> CreateAsync(string body = "{}")
    {
        var created = await SendAsync(HttpMethod.Post, "/sandboxes", body);
        return created.Body.GetProperty("sandbox_id").GetString()!;
    }

    public async Task<(int Status, JsonElement Body, HttpResponseMessage Response)> SendAsync(
        HttpMethod method, string path, string? body = null, string type = "application/json", params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(method, path);
        if (body is not null)
        {
            request.Content = new StringContent(body, Encoding.UTF8, type);
        }

        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        var response = await Http.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        var json =
            text.Length > 0 && response.Content.Headers.ContentType?.MediaType?.EndsWith("json", StringComparison.Ordinal) == true
                ? JsonDocument.Parse(text).RootElement
                : default;
        return ((int)response.StatusCode, json, response);
    }

    /// <summary>Stops listening.</summary>
    public Task StopAsync() => _app.StopAsync();

    public async ValueTask DisposeAsync()
    {
        Http.Dispose();
        await _app.DisposeAsync();
        await Node.DisposeAsync();
    }
}
