using System.Text.Json;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Pandora.Engine;
using Pandora.Engine.Projects;
using Pandora.Fakes;
using Pandora.Server.Audit;
using Pandora.Server.Hosting;

namespace Pandora.Tests.Audit;

/// <summary>A server whose audit goes into files, set up as the real server does it, with the least favourable log levels.</summary>
internal sealed class AuditedServer : IAsyncDisposable
{
    private readonly string _data = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly ServiceProvider _services;
    private FakeServer? _server;
    private bool _hasEnded;

    private AuditedServer(ServerOptions options, Action<ILoggingBuilder>? logging)
    {
        var levels = new Dictionary<string, string?> { ["LogLevel:Default"] = "None", ["LogLevel:Pandora.Audit"] = "None" };
        _services = new ServiceCollection()
            .AddMetrics().AddSingleton<ServerMetrics>().AddSingleton(TimeProvider.System)
            .AddLogging(l =>
            {
                l.AddPandoraAudit(options, _data)
                    .AddConfiguration(new ConfigurationBuilder().AddInMemoryCollection(levels).Build())
                    .SetMinimumLevel(LogLevel.None);
                logging?.Invoke(l);
            })
            .BuildServiceProvider();
    }

    public FakeServer Server => _server!;

    public string Folder => AuditFile.DirectoryIn(_data);

    public static async Task<AuditedServer> StartAsync(
        ServerOptions? serverOptions = null, EngineOptions? options = null, bool onLoopback = false, FindProject? projects = null,
        Action<ILoggingBuilder>? logging = null)
    {
        serverOptions ??= new ServerOptions();
        var audited = new AuditedServer(serverOptions, logging);
        audited._server = await FakeServer.StartAsync(
            serverOptions, options, onLoopback, audited._services.GetRequiredService<ILoggerFactory>(), projects: projects);
        return audited;
    }

    /// <summary>Stops the server, and returns the lines of its audit.</summary>
    public async Task<IReadOnlyList<JsonElement>> StopAsync()
    {
        await EndAsync();
        return [.. AuditReader.Read(Folder).Select(l => JsonDocument.Parse(l.Text).RootElement)];
    }

    public async ValueTask DisposeAsync()
    {
        await EndAsync();
        Directory.Delete(_data, recursive: true);
    }

    private async Task EndAsync()
    {
        if (!_hasEnded)
        {
            _hasEnded = true;
            await Server.DisposeAsync();
            await _services.DisposeAsync();
        }
    }
}
