using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;
using Pandora.Engine.Telemetry;
using Pandora.Server.Api;
using Pandora.Vmm.Firecracker;

namespace Pandora.Server.Hosting;

/// <summary>
/// Metrics for Prometheus, and spans for whoever is named by OpenTelemetry's own variables (<c>OTEL_EXPORTER_OTLP_ENDPOINT</c> …); without
/// such a name nothing is traced.
/// </summary>
internal static class Telemetry
{
    // Of what the runtime measures of itself, what tells an operator something.
    private static readonly HashSet<string> Runtime =
    [
        "dotnet.process.cpu.time", "dotnet.process.memory.working_set", "dotnet.gc.last_collection.heap.size", "dotnet.gc.pause.time",
    ];

    private static readonly ExplicitBucketHistogramConfiguration RequestBuckets = new()
    {
        Boundaries = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    };

    /// <summary>False where <c>OTEL_SDK_DISABLED=true</c> turns all of it off.</summary>
    public static bool IsEnabled => !IsSet("OTEL_SDK_DISABLED", "true");

    private static bool IsTracing =>
        (Variable("OTEL_EXPORTER_OTLP_ENDPOINT").Length > 0 || Variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").Length > 0)
        && !IsSet("OTEL_TRACES_EXPORTER", "none");

    public static IServiceCollection AddPandoraTelemetry(this IServiceCollection services)
    {
        if (!IsEnabled)
        {
            return services;
        }

        var builder = services.AddOpenTelemetry()
            .ConfigureResource(r => r.AddService("pandora", serviceVersion: HealthApi.Version).AddEnvironmentVariableDetector())
            .WithMetrics(m => m
                .AddMeter(EngineMetrics.MeterName, ServerMetrics.MeterName, "Microsoft.AspNetCore.Hosting", "System.Runtime")
                .AddView(i => i.Meter.Name == "System.Runtime" && !Runtime.Contains(i.Name) ? MetricStreamConfiguration.Drop : null)
                .AddView("http.server.request.duration", RequestBuckets)
                .AddPrometheusExporter());
        if (IsTracing)
        {
            builder.WithTracing(t => t
                .AddAspNetCoreInstrumentation(o => o.Filter = c => !IsRoutine(c.Request.Path.Value))
                .AddSource(EngineTracing.SourceName, FirecrackerVmm.TraceSourceName)
                .AddOtlpExporter());
        }

        return services;
    }

    /// <summary>Begins to listen: before the engine's first boot, which would otherwise be neither counted nor traced.</summary>
    public static void Start(IServiceProvider services)
    {
        services.GetService<MeterProvider>();
        services.GetService<TracerProvider>();
    }

    // Asked every few seconds by machines; a trace of each would bury the rest.
    private static bool IsRoutine(string? path) => path is "/metrics" or "/ready" or "/health";

    private static string Variable(string name) => Environment.GetEnvironmentVariable(name) ?? "";

    private static bool IsSet(string name, string value) => Variable(name).Equals(value, StringComparison.OrdinalIgnoreCase);
}
