using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;
using Pandora.Engine.Telemetry;
using Pandora.Server.Api;
using Pandora.Vmm.Firecracker;

namespace Pandora.Server.Hosting;

/// <summary>
/// Exports metrics for Prometheus, and spans to the receiver that OpenTelemetry's variables name (<c>OTEL_EXPORTER_OTLP_ENDPOINT</c> …).
/// Without such a variable nothing is traced.
/// </summary>
internal static class Telemetry
{
    // The runtime's metrics that are useful to an operator.
    private static readonly HashSet<string> Runtime =
    [
        "dotnet.process.cpu.time", "dotnet.process.memory.working_set", "dotnet.gc.last_collection.heap.size", "dotnet.gc.pause.time",
    ];

    private static readonly ExplicitBucketHistogramConfiguration RequestBuckets = new()
    {
        Boundaries = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    };

    /// <summary>Whether telemetry is on: <c>OTEL_SDK_DISABLED=true</c> turns all of it off.</summary>
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

    /// <summary>Starts to collect. Must come before the engine's first boot, which would otherwise be neither counted nor traced.</summary>
    public static void Start(IServiceProvider services)
    {
        services.GetService<MeterProvider>();
        services.GetService<TracerProvider>();
    }

    // Programs request these every few seconds; their traces would hide the others.
    private static bool IsRoutine(string? path) => path is "/metrics" or "/ready" or "/health";

    private static string Variable(string name) => Environment.GetEnvironmentVariable(name) ?? "";

    private static bool IsSet(string name, string value) => Variable(name).Equals(value, StringComparison.OrdinalIgnoreCase);
}
