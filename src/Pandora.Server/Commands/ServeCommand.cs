using System.CommandLine;
using System.ComponentModel;
using System.Diagnostics;
using Microsoft.AspNetCore.HostFiltering;
using Pandora.Contracts;
using Pandora.Engine.Node;
using Pandora.Engine;
using Pandora.Engine.Telemetry;
using Pandora.Server.Api;
using Pandora.Server.Auth;
using Pandora.Server.Hosting;
using Pandora.Server.Hosting.Connections;
using Pandora.Vmm;
using Scalar.AspNetCore;

namespace Pandora.Server.Commands;

/// <summary><c>serve</c>: settings, VMM, engine, web server, in this order. Nothing is served before the engine stands.</summary>
internal static class ServeCommand
{
    public static Command Create()
    {
        var command = new Command("serve", "Serve sandboxes until told to stop");
        // Signals are StopSignals' to hear: which one it was decides what becomes of the sandboxes.
        command.SetAction((_, cancellationToken) => RunAsync(cancellationToken));
        return command;
    }

    private static async Task<int> RunAsync(CancellationToken cancellationToken)
    {
        // What the program that started this had open is not for its children.
        Pandora.Linux.Descriptors.SetCloseOnExec();
        Pandora.Linux.RuntimeFiles.RemoveOwn();
        RaisePriority();
        // Not the caller's directory, where somebody else's appsettings.json may lie.
        var builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory });
        builder.Configuration.AddJsonFile(Settings.FilePath, optional: true);
        if (builder.Configuration.GetSection("Kestrel").Exists())
        {
            throw new StartupException(
                "the settings have a section 'Kestrel', which would listen past PANDORA_LISTEN and its checks: remove it");
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
            // Kestrel's words name the address, which may be that for metrics.
            var setting =
                serverOptions.MetricsListen.Length > 0
                && e.Message.Contains(serverOptions.MetricsListen.TrimEnd('/'), StringComparison.Ordinal)
                    ? ("PANDORA_METRICS_LISTEN", serverOptions.MetricsListen)
                    : ("PANDORA_LISTEN", serverOptions.Listen);
            throw new StartupException($"{setting.Item2} is taken by another program: end it, or set {setting.Item1} to another port", e);
        }
    }

    // A claim must not wait behind boots. VMMs are started with what this takes given back.
    private static void RaisePriority()
    {
        try
        {
            using var self = Process.GetCurrentProcess();
            self.PriorityClass = ProcessPriorityClass.AboveNormal;
        }
        catch (Exception e) when (e is Win32Exception or UnauthorizedAccessException)
        {
            // Without CAP_SYS_NICE everybody is served alike.
        }
    }

    private static WebApplication Build(
        WebApplicationBuilder builder, EngineOptions engineOptions, ServerOptions serverOptions, IVmm vmm, TimeProvider time)
    {
        var address = ListenAddress.Check(serverOptions, vmm.Capabilities);
        var metricsAddress = MetricsListener.Check(serverOptions);
        builder.WebHost.UseUrls([
            serverOptions.Listen.TrimEnd('/'),
            .. metricsAddress is null ? [] : new[] { serverOptions.MetricsListen.TrimEnd('/') },
        ]);
        builder.WebHost.ConfigureKestrel(k =>
        {
            k.Limits.MaxRequestBodySize = Limits.MaxBodyBytes;
            k.Limits.MinResponseDataRate = ReadingPace.ForKestrel;
        });
        builder.Logging.AddPandoraLogs(serverOptions.LogFormat);
        builder.Services.AddSingleton(vmm).AddSingleton<EngineMetrics>().AddSingleton<StopSignals>().AddSingleton<EngineHost>();
        builder.Services.AddSingleton<MemoryReturn>();
        builder.Services.AddSingleton<IHostLifetime>(s => s.GetRequiredService<StopSignals>());
        builder.Services.AddHostedService<ServiceManager>();
        builder.Services.AddHostedService(s => s.GetRequiredService<EngineHost>());
        builder.Services.AddSingleton(s => s.GetRequiredService<EngineHost>().Engine.Sandboxes);
        builder.Services.AddSingleton<Func<NodeStatus>>(s => () => s.GetRequiredService<EngineHost>().Engine.Status);
        builder.Services.AddPandoraApi(engineOptions, serverOptions, time);
        builder.Services.Configure<HostFilteringOptions>(o => o.AllowedHosts = ListenAddress.AllowedHosts(serverOptions, address));
        var app = builder.Build();
        app.MapPandoraApi(serverOptions);
        foreach (var source in ((IEndpointRouteBuilder)app).DataSources)
        {
            // Made by the first request otherwise. One that comes when descriptors have run out would break them for good: a type that
            // could not be initialised stays so.
            _ = source.Endpoints;
        }

        Telemetry.Start(app.Services);
        _ = app.Services.GetRequiredService<MemoryReturn>();
        return app;
    }

    /// <summary>What the doors need besides an engine.</summary>
    internal static IServiceCollection AddPandoraApi(
        this IServiceCollection services, EngineOptions engineOptions, ServerOptions serverOptions, TimeProvider time)
    {
        services.AddSingleton(engineOptions).AddSingleton(serverOptions).AddSingleton(time);
        services.AddSingleton<ServerMetrics>().AddSingleton<Unauthorized>();
        services.AddBoundedConnections(ConnectionLimits.From(engineOptions, serverOptions, Descriptors.Limit));
        services.AddHostFiltering(o => o.IncludeFailureMessage = false);
        // The builder's own use of it runs before everything and for every address; MapPandoraApi uses it where it belongs.
        foreach (
            var filter in services
                .Where(d => d.ServiceType == typeof(IStartupFilter) && d.ImplementationType?.Name == "HostFilteringStartupFilter")
                .ToList())
        {
            services.Remove(filter);
        }

        services.AddProblemDetails(o => o.CustomizeProblemDetails = Problems.Customize);
        services.AddExceptionHandler<Problems>();
        services.AddValidation();
        services.Configure<RouteHandlerOptions>(o => o.ThrowOnBadRequest = true);
        services.ConfigureHttpJsonOptions(o =>
        {
            o.SerializerOptions.TypeInfoResolverChain.Insert(0, PandoraJson.Default);
            o.SerializerOptions.PropertyNamingPolicy = PandoraJson.Default.Options.PropertyNamingPolicy;
            o.SerializerOptions.NumberHandling = PandoraJson.Default.Options.NumberHandling;
        });
        // A lambda, by which the generator that reads XML comments knows the call.
        services.AddOpenApi(o => ApiDescription.Configure(o));
        return services.AddPandoraTelemetry();
    }

    /// <summary>All routes of the server.</summary>
    internal static void MapPandoraApi(this WebApplication app, ServerOptions options)
    {
        app.UseAdmission();
        app.UseExceptionHandler();
        app.UseHeadRequests();
        // Here and not where the framework would put it, before everything: HEAD is to be routed as GET.
        app.UseRouting();
        app.UseMetricsListener(options);
        app.UseAllowedHosts();
        app.UseStatusCodePages();
        app.UseMiddleware<SameOrigin>();
        app.UseMiddleware<ApiKeys>();
        app.UseMiddleware<ContentTypes>();
        app.MapSandboxes();
        app.MapHealth();
        if (Telemetry.IsEnabled)
        {
            app.MapPrometheusScrapingEndpoint();
        }

        app.MapOpenApi();
        app.MapScalarApiReference("/docs", o => o.WithTitle("Pandora").DisableDefaultFonts());
    }
}
