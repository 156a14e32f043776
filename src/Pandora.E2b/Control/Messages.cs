using System.Text.Json;
using System.Text.Json.Serialization;

namespace Pandora.E2b.Control;

/// <summary>A request for a sandbox.</summary>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record NewSandbox
{
    [JsonPropertyName("templateID")]
    public string? TemplateId { get; init; }

    public double? Timeout { get; init; }

    public Dictionary<string, string>? Metadata { get; init; }

    public Dictionary<string, string>? EnvVars { get; init; }

    public bool? Secure { get; init; }

    [JsonPropertyName("allow_internet_access")]
    public bool? AllowInternetAccess { get; init; }

    public Network? Network { get; init; }

    public bool? AutoPause { get; init; }

    public bool? AutoPauseMemory { get; init; }

    public AutoResume? AutoResume { get; init; }

    /// <summary>Servers for an MCP gateway. The client itself starts the gateway in the sandbox, if the template has one.</summary>
    public JsonElement? Mcp { get; init; }

    public JsonElement? Iam { get; init; }

    public JsonElement[]? VolumeMounts { get; init; }
}

/// <summary>Whether traffic resumes a paused sandbox.</summary>
internal sealed record AutoResume(bool? Enabled);

/// <summary>What a sandbox may reach, and who may reach it.</summary>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal record Network
{
    public string[]? AllowOut { get; init; }

    public string[]? DenyOut { get; init; }

    public bool? AllowPublicTraffic { get; init; }

    public string? MaskRequestHost { get; init; }

    public JsonElement? HttpsPorts { get; init; }

    public JsonElement? EgressProxy { get; init; }

    public JsonElement? Rules { get; init; }
}

/// <summary>What a sandbox may reach from now on. What is left out is cleared.</summary>
internal sealed record NetworkChange : Network
{
    [JsonPropertyName("allow_internet_access")]
    public bool? AllowInternetAccess { get; init; }
}

/// <summary>A request to use a sandbox that exists.</summary>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record ConnectSandbox(double? Timeout = null, bool? Memory = null);

/// <summary>A new time, in seconds from now, after which a sandbox ends.</summary>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record TimeoutChange(double? Timeout = null);

/// <summary>The least time, in seconds, that a sandbox is to live on.</summary>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record Refresh(double? Duration = null);

/// <summary>A sandbox, as its creator needs it.</summary>
internal sealed record CreatedSandbox(
    [property: JsonPropertyName("templateID")] string TemplateId,
    [property: JsonPropertyName("sandboxID")] string SandboxId,
    [property: JsonPropertyName("clientID")] string ClientId,
    string EnvdVersion,
    string Alias,
    string EnvdAccessToken,
    string? TrafficAccessToken,
    string Domain);

/// <summary>A sandbox, as lists show it; with the last members, as it is shown alone.</summary>
internal sealed record SandboxDetail(
    [property: JsonPropertyName("templateID")] string TemplateId,
    [property: JsonPropertyName("sandboxID")] string SandboxId,
    [property: JsonPropertyName("clientID")] string ClientId,
    string Alias,
    DateTimeOffset StartedAt,
    DateTimeOffset EndAt,
    int CpuCount,
    [property: JsonPropertyName("memoryMB")] int MemoryMb,
    [property: JsonPropertyName("diskSizeMB")] int DiskSizeMb,
    string State,
    string EnvdVersion,
    IReadOnlyDictionary<string, string> Metadata)
{
    public string? EnvdAccessToken { get; init; }

    public string? Domain { get; init; }

    public bool? AllowInternetAccess { get; init; }

    public ShownNetwork? Network { get; init; }

    public Lifecycle? Lifecycle { get; init; }
}

/// <summary>What a sandbox may reach, and who may reach it.</summary>
internal sealed record ShownNetwork(string[] AllowOut, string[] DenyOut, bool AllowPublicTraffic, string? MaskRequestHost);

/// <summary>What happens at a sandbox's end.</summary>
internal sealed record Lifecycle(bool AutoResume, string OnTimeout);

/// <summary>What a sandbox used at one moment; sizes are bytes.</summary>
internal sealed record SandboxMetric(
    DateTimeOffset Timestamp, long TimestampUnix, int CpuCount, double CpuUsedPct, long MemUsed, long MemTotal, long MemCache,
    long DiskUsed, long DiskTotal);

/// <summary>The newest of the metrics of several sandboxes, by id.</summary>
internal sealed record SandboxMetrics(IReadOnlyDictionary<string, SandboxMetric> Sandboxes);

/// <summary>What happened in a sandbox, in two forms.</summary>
internal sealed record SandboxLogs(SandboxLog[] Logs, SandboxLogEntry[] LogEntries);

/// <summary>A line about a sandbox: a <see cref="SandboxLogLine"/> as a text.</summary>
internal sealed record SandboxLog(DateTimeOffset Timestamp, string Line);

/// <summary>What E2B's command line reads from a line.</summary>
internal sealed record SandboxLogLine(string Level, string Logger, string Message);

/// <summary>A line about a sandbox, with its parts.</summary>
internal sealed record SandboxLogEntry(DateTimeOffset Timestamp, string Level, string Message, Dictionary<string, string> Fields);

/// <summary>A template.</summary>
internal sealed record TemplateEntry(
    [property: JsonPropertyName("templateID")] string TemplateId,
    [property: JsonPropertyName("buildID")] string BuildId,
    int CpuCount,
    [property: JsonPropertyName("memoryMB")] int MemoryMb,
    [property: JsonPropertyName("diskSizeMB")] int DiskSizeMb,
    bool Public,
    string[] Aliases,
    string[] Names,
    DateTimeOffset CreatedAt,
    DateTimeOffset UpdatedAt,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.Never)] string? CreatedBy,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.Never)] DateTimeOffset? LastSpawnedAt,
    long SpawnCount,
    int BuildCount,
    string EnvdVersion,
    string BuildStatus);

/// <summary>The template behind a name.</summary>
internal sealed record TemplateAlias(
    [property: JsonPropertyName("templateID")] string TemplateId, [property: JsonPropertyName("public")] bool IsPublic);
