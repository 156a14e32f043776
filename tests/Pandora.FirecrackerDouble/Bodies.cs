using System.Text.Json.Serialization;
using System.Text.RegularExpressions;

namespace Pandora.FirecrackerDouble;

// The bodies that Firecracker's API description allows. An unknown member is refused, as Firecracker refuses it.

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record MachineConfig(
    [property: JsonRequired] int VcpuCount,
    [property: JsonRequired] long MemSizeMib,
    bool Smt = false,
    bool TrackDirtyPages = false,
    string? CpuTemplate = null,
    string? HugePages = null)
{
    public string? Fault => this switch
    {
        { VcpuCount: < 1 or > 32 } => "The vCPU number is invalid!",
        { MemSizeMib: < 1 } => "The memory size (MiB) is invalid.",
        { Smt: true } when VcpuCount % 2 == 1 && VcpuCount != 1 => "The vCPU number is invalid!",
        _ => null,
    };
}

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record BootSource([property: JsonRequired] string KernelImagePath, string? InitrdPath = null, string? BootArgs = null)
{
    public string? Fault => this switch
    {
        _ when !Root.HasFile(KernelImagePath) => $"The kernel file cannot be opened: {KernelImagePath}",
        { InitrdPath: { } initrd } when !Root.HasFile(initrd) => $"The initrd file cannot be opened: {initrd}",
        _ => null,
    };
}

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record Drive(
    [property: JsonRequired] string DriveId,
    [property: JsonRequired] bool IsRootDevice,
    string? PathOnHost = null,
    bool IsReadOnly = false,
    string CacheType = "Unsafe",
    string IoEngine = "Sync",
    RateLimiter? RateLimiter = null,
    string? Partuuid = null,
    string? Socket = null)
{
    public string? Fault => this switch
    {
        _ when PathOnHost is null || !Root.HasFile(PathOnHost) => $"Unable to open the block device backing file: {PathOnHost}",
        { CacheType: not ("Unsafe" or "Writeback") } => $"unknown variant `{CacheType}`",
        { IoEngine: not ("Sync" or "Async") } => $"unknown variant `{IoEngine}`",
        _ => RateLimiter?.Fault,
    };
}

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed partial record Network(
    [property: JsonRequired] string IfaceId,
    [property: JsonRequired] string HostDevName,
    string? GuestMac = null,
    int? Mtu = null,
    RateLimiter? RxRateLimiter = null,
    RateLimiter? TxRateLimiter = null)
{
    public string? Fault => this switch
    {
        { HostDevName.Length: 0 or > 15 } => $"Invalid TAP device name: {HostDevName}",
        { GuestMac: { } mac } when !Mac().IsMatch(mac) => $"invalid MAC address {mac}",
        _ => RxRateLimiter?.Fault ?? TxRateLimiter?.Fault,
    };

    [GeneratedRegex("^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$")]
    private static partial Regex Mac();
}

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record RateLimiter(TokenBucket? Bandwidth = null, TokenBucket? Ops = null)
{
    public string? Fault => new[] { Bandwidth, Ops }.Any(b => b is { Size: < 0 } or { RefillTime: < 0 }) ? "invalid token bucket" : null;
}

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record TokenBucket([property: JsonRequired] long Size, [property: JsonRequired] long RefillTime, long? OneTimeBurst = null);

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record Entropy(RateLimiter? RateLimiter = null);

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record Logger(
    string? LogPath = null, string? Level = null, bool ShowLevel = false, bool ShowLogOrigin = false, string? Module = null)
{
    public string? Fault => this switch
    {
        _ when LogPath is null || !Root.HasFile(LogPath) => $"Failed to open {LogPath}",
        { Level: not (null or "Error" or "Warning" or "Info" or "Debug" or "Trace" or "Off") } => $"unknown variant `{Level}`",
        _ => null,
    };
}

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record Metrics([property: JsonRequired] string MetricsPath)
{
    public string? Fault => Root.HasFile(MetricsPath) ? null : $"Failed to open {MetricsPath}";
}

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record InstanceAction([property: JsonRequired] string ActionType);

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record Vsock([property: JsonRequired] long GuestCid, [property: JsonRequired] string UdsPath, string? VsockId = null)
{
    public string? Fault => GuestCid is < 3 or > uint.MaxValue ? $"invalid guest CID {GuestCid}" : null;
}

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record Vm([property: JsonRequired] string State);

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record SnapshotCreate(
    [property: JsonRequired] string MemFilePath, [property: JsonRequired] string SnapshotPath, string SnapshotType = "Full");

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record SnapshotLoad(
    [property: JsonRequired] string SnapshotPath,
    MemoryBackend? MemBackend = null,
    string? MemFilePath = null,
    bool ResumeVm = false,
    bool TrackDirtyPages = false,
    bool EnableDiffSnapshots = false)
{
    public string? Fault => this switch
    {
        _ when (MemBackend is null) == (MemFilePath is null) =>
            "too few or too many fields: either `mem_backend` or `mem_file_path` (deprecated) is required",
        { MemBackend.BackendType: not "File" } => "this double restores from files only",
        _ => null,
    };
}

[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
internal sealed record MemoryBackend([property: JsonRequired] string BackendPath, [property: JsonRequired] string BackendType);

/// <summary>The part of a machine that the state file of a snapshot holds. The machine is restored with the same paths.</summary>
internal sealed record SavedState(long MemSizeMib, IReadOnlyList<string> Drives, string? Vsock);

/// <summary>Resolves paths: in a jail they begin at the root of the jail.</summary>
internal static class Root
{
    private static readonly string? Directory = Environment.GetEnvironmentVariable("PANDORA_DOUBLE_ROOT");

    public static string On(string path) => Directory is null ? path : Path.Join(Directory, path);

    public static bool HasFile(string path) => File.Exists(On(path));
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    RespectRequiredConstructorParameters = true,
    RespectNullableAnnotations = true,
    NumberHandling = JsonNumberHandling.Strict)]
[JsonSerializable(typeof(MachineConfig))]
[JsonSerializable(typeof(BootSource))]
[JsonSerializable(typeof(Drive))]
[JsonSerializable(typeof(Network))]
[JsonSerializable(typeof(Entropy))]
[JsonSerializable(typeof(Vsock))]
[JsonSerializable(typeof(Vm))]
[JsonSerializable(typeof(SnapshotCreate))]
[JsonSerializable(typeof(SnapshotLoad))]
[JsonSerializable(typeof(SavedState))]
[JsonSerializable(typeof(Logger))]
[JsonSerializable(typeof(Metrics))]
[JsonSerializable(typeof(InstanceAction))]
internal sealed partial class BodyJson : JsonSerializerContext;
