using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;

namespace Pandora.E2b.Control;

/// <summary>The routes that show what sandboxes use, and what happened in them.</summary>
internal static class UsageApi
{
    private const int MostSandboxes = 100, MostLogs = 1000;

    public static void MapUsage(this IEndpointRouteBuilder routes)
    {
        routes.MapGet("/sandboxes/{id}/metrics", GetMetrics);
        routes.MapGet("/sandboxes/metrics", ListMetrics);
        routes.MapGet("/sandboxes/{id}/logs", GetLogsAsync);
        routes.MapGet("/v2/sandboxes/{id}/logs", GetLogsAsync);
    }

    private static IResult GetMetrics(string id, HttpRequest request, ProjectSandboxes sandboxes)
    {
        var sandbox = sandboxes.Get(id);
        var (start, end) = (SecondsOf(request, "start"), SecondsOf(request, "end"));
        if (start > end)
        {
            throw PandoraException.Invalid("end", "must not be before start");
        }

        var used = sandbox.Usage
            .Where(u => (start is null || u.At.ToUnixTimeSeconds() >= start) && (end is null || u.At.ToUnixTimeSeconds() <= end));
        return ControlRequest.Json([.. used.Select(Describe)], E2bJson.Default.SandboxMetricArray);
    }

    private static IResult ListMetrics(HttpRequest request, ProjectSandboxes sandboxes)
    {
        var ids = request.Query["sandbox_ids"].ToString().Split(',', StringSplitOptions.RemoveEmptyEntries);
        if (ids.Length is 0 or > MostSandboxes)
        {
            throw PandoraException.Invalid("sandbox_ids", $"must be 1 to {MostSandboxes} ids");
        }

        Dictionary<string, SandboxMetric> found = [];
        foreach (var id in ids.Where(sandboxes.IsVisible))
        {
            try
            {
                if (sandboxes.Get(id).Usage is [.., var newest])
                {
                    found[id] = Describe(newest);
                }
            }
            catch (PandoraException)
            {
                // It has ended: there is nothing to show.
            }
        }

        return ControlRequest.Json(new SandboxMetrics(found), E2bJson.Default.SandboxMetrics);
    }

    // What happened in a sandbox are its processes: when each was started, and how it ended.
    private static async Task<IResult> GetLogsAsync(string id, ProjectSandboxes sandboxes, CancellationToken cancellationToken)
    {
        var sandbox = sandboxes.Get(id);
        var processes = await sandbox.ListProcessesAsync(cancellationToken);
        List<SandboxLogEntry> entries = [new(sandbox.Status.CreatedAt, "info", "sandbox created", [])];
        foreach (var process in processes.TakeLast(MostLogs - 1))
        {
            var end = process.End is { } ended ? $"ended with exit code {ended.ExitCode}" : "is running";
            entries.Add(new SandboxLogEntry(
                process.StartedAt, "info", $"process {process.Pid} started: {process.Command}; it {end}",
                new Dictionary<string, string> { ["pid"] = $"{process.Pid}" }));
        }

        return ControlRequest.Json(
            new SandboxLogs([.. entries.Select(LineOf)], [.. entries]), E2bJson.Default.SandboxLogs);
    }

    private static SandboxLog LineOf(SandboxLogEntry entry)
    {
        var line = new SandboxLogLine(entry.Level, SandboxList.ClientId, entry.Message);
        return new SandboxLog(entry.Timestamp, JsonSerializer.Serialize(line, E2bJson.Default.SandboxLogLine));
    }

    private static SandboxMetric Describe(SandboxUsage usage) => new(
        usage.At.ToUniversalTime(), usage.At.ToUnixTimeSeconds(), usage.Cpus, Math.Round(usage.CpuPercent, 2), usage.MemoryUsed,
        usage.MemoryTotal, usage.MemoryCached, usage.DiskUsed, usage.DiskTotal);

    private static long? SecondsOf(HttpRequest request, string name)
    {
        var text = request.Query[name].ToString();
        if (text.Length == 0)
        {
            return null;
        }

        return long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var seconds)
            ? seconds
            : throw PandoraException.Invalid(name, "must be seconds since 1970");
    }
}
