using System.CommandLine;
using System.ComponentModel;
using System.Diagnostics;
using Microsoft.AspNetCore.HostFiltering;
using Pandora.Contracts;
using Pandora.E2b;
using Pandora.Engine.Node;
using Pandora.Engine;
using Pandora.Engine.Projects;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;
using Pandora.Mcp;
using Pandora.Server.Api;
using Pandora.Server.Api.Files;
using Pandora.Server.Api.Ports;
using Pandora.Server.Audit;
using Pandora.Server.Auth;
using Pandora.Server.Gateway;
using Pandora.Server.Hosting;
using Pandora.Server.Hosting.Connections;
using Pandora.Server.Hosting.Tls;
using Pandora.Vmm;
using Scalar.AspNetCore;

namespace Pandora.Server.Commands;

/// <summary>
/// <c>serve</c>: reads the settings, chooses the VMM, opens the engine, and starts the web server, in this order. The web server listens
/// only when the engine is open.
/// </summary>
internal static class ServeCommand
{
    // Proxies cut what is quiet for longer; and a client that is gone without a word is found.
    private static readonly TimeSpan SocketPing = TimeSpan.FromSeconds(15);

    public static Command Create()
    {
        var command = new Command("serve", "Serve sandboxes until a signal stops the server");
        // StopSignals handles the signals: which signal it was decides whether the sandboxes end.
        command.SetAction((_, cancellationToken) => RunAsync(cancellationToken));
        return command;
    }

    private static async Task<int> RunAsync(CancellationToken cancellationToken)
    {
        // Children must not inherit the descriptors that this process inherited.
        Pandora.Linux.Descriptors.SetCloseOnExec();
        Pandora.Linux.RuntimeFiles.RemoveOwn();
        RaisePriority();
        // Not the caller's directory, which may contain an appsettings.json of another program.
        var builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory });
        builder.Configuration.AddJsonFile(Settings.FilePath, optional: true);
        if (builder.Configuration.GetSection("Kestrel").Exists())
        {
            throw new StartupException(
                "the settings have a section 'Kestrel', which would open addresses without the checks of PANDORA_LISTEN: remove it");
        }

        Settings.RejectUnknown();
        var engineOptions = Settings.Read<EngineOptions>(builder.Configuration);
        var vmmOptions = Settings.Read<VmmOptions>(builder.Configuration);
        var serverOptions = Settings.Read<ServerOptions>(builder.Configuration);
        var time = TimeProvider.System;
        var vmm = await vmmOptions.Choice(engineOptions.DataDir, engineOptions.MachineDir).MakeAsync(time, cancellationToken);
        await using var app = Build(builder, engineOptions, serverOptions, vmm, time);
        try
        {
            var host = app.Services.GetRequiredService<EngineHost>();
            await app.RunAsync(CancellationToken.None);
            return host.HasFailed ? 1 : 0;
        }
        catch (IOException e) when (e.InnerException is Microsoft.AspNetCore.Connections.AddressInUseException)
        {
            // Kestrel's message names the address, which may be the address for metrics.
            (string Name, string Value) setting =
                serverOptions.MetricsListen.Length > 0
                && e.Message.Contains(serverOptions.MetricsListen.TrimEnd('/'), StringComparison.Ordinal)
                    ? ("PANDORA_METRICS_LISTEN", serverOptions.MetricsListen)
                    : ("PANDORA_LISTEN", serverOptions.Listen);
            throw new StartupException(
                $"{setting.Value} is taken by another program: end that program, or set {setting.Name} to another port", e);
        }
    }

    // A claim must not wait behind boots. VMMs are started with the normal priority again.
    private static void RaisePriority()
    {
        try
        {
            using var self = Process.GetCurrentProcess();
            self.PriorityClass = ProcessPriorityClass.AboveNormal;
        }
        catch (Exception e) when (e is Win32Exception or UnauthorizedAccessException)
        {
            // Without CAP_SYS_NICE the server keeps the normal priority.
        }
    }

    private static WebApplication Build(
        WebApplicationBuilder builder, EngineOptions engineOptions, ServerOptions serverOptions, IVmm vmm, TimeProvider time)
    {
        var access = new AccessStore(engineOptions.DataDir);
        var needsKey = serverOptions.Keys.Count > 0 || access.Read() is { NeedsKey: true };
        var address = ListenAddress.Check(serverOptions, needsKey, vmm.Capabilities);
        var metricsAddress = MetricsListener.Check(serverOptions, needsKey);
        builder.WebHost.UseUrls([
            serverOptions.Listen.TrimEnd('/'),
            .. metricsAddress is null ? [] : new[] { serverOptions.MetricsListen.TrimEnd('/') },
        ]);
        builder.WebHost.ConfigureKestrel(k =>
        {
            k.Limits.MaxRequestBodySize = Limits.MaxBodyBytes;
            k.Limits.MinResponseDataRate = ReadingPace.ForKestrel;
        });
        builder.Logging.AddPandoraLogs(serverOptions.LogFormat).AddPandoraAudit(serverOptions, engineOptions.DataDir);
        builder.Services.AddSingleton(vmm).AddSingleton<EngineMetrics>().AddSingleton<StopSignals>().AddSingleton<EngineHost>();
        builder.Services.AddSingleton<MemoryReturn>();
        builder.Services.AddSingleton<IHostLifetime>(s => s.GetRequiredService<StopSignals>());
        builder.Services.AddHostedService<ServiceManager>();
        builder.Services.AddHostedService(s => s.GetRequiredService<EngineHost>());
        builder.Services.AddSingleton(s => s.GetRequiredService<EngineHost>().Engine.Sandboxes);
        builder.Services.AddSingleton<Func<NodeStatus>>(s => () => s.GetRequiredService<EngineHost>().Engine.Status);
        builder.Services.AddPandoraApi(engineOptions, serverOptions, time);
        builder.Services.AddTls(serverOptions, address.Port);
        var names = ListenAddress.AllowedHosts(serverOptions, address);
        PreviewDomain.Check(serverOptions, names);
        // No page and no cookie is served there, so that previews below the same domain gain nothing.
        names.Add($"api.{E2bForwarder.OptionsOf(serverOptions).Domain}");
        builder.Services.Configure<HostFilteringOptions>(o => o.AllowedHosts = names);
        var app = builder.Build();
        app.MapPandoraApi(serverOptions, needsKey);
        foreach (var source in ((IEndpointRouteBuilder)app).DataSources)
        {
            // Otherwise the first request makes the endpoints. If descriptors have run out then, a static constructor fails, and the
            // endpoints stay unusable until the server ends.
            _ = source.Endpoints;
        }

        Telemetry.Start(app.Services);
        _ = app.Services.GetRequiredService<MemoryReturn>();
        return app;
    }

    /// <summary>Adds the services that the API needs besides the engine.</summary>
    internal static IServiceCollection AddPandoraApi(
        this IServiceCollection services, EngineOptions engineOptions, ServerOptions serverOptions, TimeProvider time)
    {
        services.AddSingleton(engineOptions).AddSingleton(serverOptions).AddSingleton(time);
        services.AddSingleton<ServerMetrics>().AddSingleton<Unauthorized>();
        services.AddSingleton(new AccessStore(engineOptions.DataDir)).AddSingleton<Access>().AddSingleton<GuessBound>();
        services.AddSingleton<KeyCheck>();
        services.AddSingleton<FindProject>(s => s.GetRequiredService<Access>().FindProject);
        services.AddHostedService(s => s.GetRequiredService<Access>());
        services.AddPreviews();
        services.AddE2b(E2bForwarder.OptionsOf(serverOptions));
        services.AddPandoraMcp(McpTools.Options);
        services.AddScoped<Caller>();
        services.AddScoped(s =>
        {
            var caller = s.GetRequiredService<Caller>();
            return new ProjectSandboxes(s.GetRequiredService<SandboxRegistry>(), caller.Project, caller.Role == KeyRole.Admin);
        });
        services.AddBoundedConnections(ConnectionLimits.From(engineOptions, serverOptions, Descriptors.Limit));
        services.AddHostFiltering(o => o.IncludeFailureMessage = false);
        // The builder adds host filtering before all other middleware and for every address; MapPandoraApi adds it at the right place.
        foreach (
            var filter in services
                .Where(d => d.ServiceType == typeof(IStartupFilter) && d.ImplementationType?.Name == "HostFilteringStartupFilter")
                .ToList())
        {
            services.Remove(filter);
        }

        services.AddProblemDetails(o => o.CustomizeProblemDetails = Problems.Customize);
        services.AddExceptionHandler<Problems>();
        services.AddSingleton<Problems>();
        services.AddValidation();
        services.Configure<RouteHandlerOptions>(o => o.ThrowOnBadRequest = true);
        services.ConfigureHttpJsonOptions(o =>
        {
            o.SerializerOptions.TypeInfoResolverChain.Insert(0, PandoraJson.Default);
            o.SerializerOptions.PropertyNamingPolicy = PandoraJson.Default.Options.PropertyNamingPolicy;
            o.SerializerOptions.NumberHandling = PandoraJson.Default.Options.NumberHandling;
        });
        // The generator that reads XML comments finds this call by its lambda.
        services.AddOpenApi(o => ApiDescription.Configure(o));
        return services.AddPandoraTelemetry();
    }

    /// <summary>Adds the middleware and all routes of the server.</summary>
    internal static void MapPandoraApi(this WebApplication app, ServerOptions options, bool needsKey)
    {
        app.UseAdmission();
        app.UseExceptionHandler();
        // The address for metrics serves no sandboxes.
        var metricsPort = MetricsListener.Check(options, needsKey)?.Port;
        app.UseWhen(c => c.Connection.LocalPort != metricsPort, e2b => e2b.UseE2b());
        // A guest must see the header Accept, and the method, as they came.
        app.UsePreviews(options, needsKey);
        app.UseAcceptedProblems();
        app.UseHeadRequests();
        // Here, and not before all other middleware, where the framework would add it: HEAD must be routed as GET.
        app.UseRouting();
        app.UseMetricsListener(options, needsKey);
        app.UseAllowedHosts();
        app.UseStatusCodePages();
        app.UseMiddleware<SameOrigin>();
        app.UseMiddleware<ApiKeys>();
        app.UseMiddleware<ContentTypes>();
        app.UseWebSockets(new WebSocketOptions { KeepAliveInterval = SocketPing, KeepAliveTimeout = SocketPing });
        app.MapSandboxes();
        app.MapProcesses();
        app.MapFiles();
        app.MapPorts();
        app.MapPreviewLinks();
        app.MapHealth();
        app.MapE2b();
        app.MapPandoraMcp();
        if (Telemetry.IsEnabled)
        {
            app.MapPrometheusScrapingEndpoint();
        }

        app.MapOpenApi();
        app.MapScalarApiReference("/docs", o => o.WithTitle("Pandora").DisableDefaultFonts());
    }
}
