using System.CommandLine;
using Microsoft.AspNetCore.HostFiltering;
using OpenTelemetry.Metrics;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Server.Api;
using Pandora.Server.Auth;
using Pandora.Server.Hosting;
using Pandora.Vmm;
using Pandora.Vmm.Qemu;
using Scalar.AspNetCore;

namespace Pandora.Server.Commands;

/// <summary><c>serve</c>: settings, VMM, engine, web server, in this order. Nothing is served before the engine stands.</summary>
internal static class ServeCommand
{
    // The longest valid request: 1 MiB of code and of input, each byte escaped to six, and the rest.
    private const long MaxBodyBytes = (6L * 2 * 1024 * 1024) + (1024 * 1024);

    public static Command Create()
    {
        var command = new Command("serve", "Serve sandboxes until told to stop");
        command.SetAction((_, cancellationToken) => RunAsync(cancellationToken));
        return command;
    }

    private static async Task<int> RunAsync(CancellationToken cancellationToken)
    {
        var builder = WebApplication.CreateSlimBuilder();
        Settings.RejectUnknown();
        var engineOptions = Settings.Read<EngineOptions>(builder.Configuration);
        var serverOptions = Settings.Read<ServerOptions>(builder.Configuration);
        var time = TimeProvider.System;
        var vmm = await QemuVmm.CreateAsync(engineOptions.Accel, time, cancellationToken);
        await using var app = Build(builder, engineOptions, serverOptions, vmm, time);
        var engine = await PandoraEngine.StartAsync(
            engineOptions, vmm, app.Services.GetRequiredService<EngineMetrics>(), time, app.Services.GetRequiredService<ILoggerFactory>(), cancellationToken);
        app.Services.GetRequiredService<EngineSlot>().Engine = engine;
        try
        {
            await app.RunAsync(cancellationToken);
            return 0;
        }
        catch (IOException e) when (e.InnerException is Microsoft.AspNetCore.Connections.AddressInUseException)
        {
            throw new StartupException($"{serverOptions.Listen} is taken by another program: end it, or set PANDORA_LISTEN to another port", e);
        }
        finally
        {
            await engine.DisposeAsync();
        }
    }

    internal static WebApplication Build(WebApplicationBuilder builder, EngineOptions engineOptions, ServerOptions serverOptions, IVmm vmm, TimeProvider time)
    {
        var address = ListenAddress.Check(serverOptions, vmm.Capabilities);
        builder.WebHost.UseUrls(serverOptions.Listen.TrimEnd('/'));
        builder.WebHost.ConfigureKestrel(k => k.Limits.MaxRequestBodySize = MaxBodyBytes);
        builder.Logging.AddSimpleConsole(o =>
        {
            o.SingleLine = true;
            o.TimestampFormat = "HH:mm:ss.fff ";
        });
        builder.Logging.AddFilter("Microsoft.AspNetCore", LogLevel.Warning);
        builder.Services.AddPandora(engineOptions, serverOptions, time);
        builder.Services.Configure<HostFilteringOptions>(o => o.AllowedHosts = ListenAddress.AllowedHosts(serverOptions, address));
        var app = builder.Build();
        app.MapPandora();
        return app;
    }

    /// <summary>All services of the server.</summary>
    internal static IServiceCollection AddPandora(this IServiceCollection services, EngineOptions engineOptions, ServerOptions serverOptions, TimeProvider time)
    {
        services.AddSingleton(engineOptions).AddSingleton(serverOptions).AddSingleton(time);
        services.AddSingleton<EngineSlot>().AddSingleton<EngineMetrics>();
        services.AddSingleton(s => s.GetRequiredService<EngineSlot>().Engine ?? throw new InvalidOperationException("the engine has not started"));
        services.AddSingleton(s => s.GetRequiredService<PandoraEngine>().Sandboxes);
        services.AddHostedService<EngineHost>().AddHostedService<Reaper>();
        services.AddHostFiltering(_ => { });
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
        services.AddOpenApi(o => o.AddDocumentTransformer((document, _, _) =>
        {
            document.Info.Title = "Pandora";
            document.Info.Version = HealthApi.Version;
            document.Info.Description = "Throw-away sandboxes in real microVMs.";
            document.Servers?.Clear();
            return Task.CompletedTask;
        }));
        services.AddOpenTelemetry().WithMetrics(m => m.AddMeter(EngineMetrics.MeterName).AddPrometheusExporter());
        return services;
    }

    /// <summary>All routes of the server.</summary>
    internal static void MapPandora(this WebApplication app)
    {
        app.UseExceptionHandler();
        app.UseHostFiltering();
        app.UseStatusCodePages();
        app.UseMiddleware<SameOrigin>();
        app.UseMiddleware<ApiKeys>();
        app.MapSandboxes();
        app.MapHealth();
        app.MapPrometheusScrapingEndpoint();
        app.MapOpenApi();
        app.MapScalarApiReference("/docs", o => o.WithTitle("Pandora").DisableDefaultFonts());
    }
}

/// <summary>Where the engine is put once it stands: it starts before the web server and after the logging that it uses.</summary>
internal sealed class EngineSlot
{
    /// <summary>The engine.</summary>
    public PandoraEngine? Engine { get; set; }
}
