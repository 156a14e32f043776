using System.Text.Json.Serialization;

namespace Pandora.Vmm.Firecracker;

// Bodies of Firecracker's API, with the members that Pandora uses. Source: the API's description (Swagger), definitions of the same names.

/// <summary><c>PUT /machine-config</c>.</summary>
/// <param name="VcpuCount">1 to 32.</param>
/// <param name="MemSizeMib">Guest memory in MiB.</param>
/// <param name="Smt">Simultaneous multithreading; not available on aarch64.</param>
/// <param name="TrackDirtyPages">Needed for diff snapshots.</param>
internal sealed record MachineConfiguration(int VcpuCount, int MemSizeMib, bool Smt = false, bool TrackDirtyPages = false);

/// <summary><c>PUT /boot-source</c>.</summary>
internal sealed record BootSource(string KernelImagePath, string InitrdPath, string BootArgs);

/// <summary><c>PUT /drives/{drive_id}</c>. No drive is the root device: the initrd mounts them.</summary>
internal sealed record Drive(
    string DriveId, string PathOnHost, bool IsRootDevice, bool IsReadOnly, string CacheType, string IoEngine, RateLimiter? RateLimiter);

/// <summary><c>PUT /network-interfaces/{iface_id}</c>.</summary>
internal sealed record NetworkInterface(
    string IfaceId, string GuestMac, string HostDevName, RateLimiter? RxRateLimiter, RateLimiter? TxRateLimiter);

/// <summary>Limits a device; a bucket that is null sets no limit.</summary>
internal sealed record RateLimiter(TokenBucket? Bandwidth, TokenBucket? Ops);

/// <summary><paramref name="Size"/> tokens every <paramref name="RefillTime"/> milliseconds.</summary>
internal sealed record TokenBucket(long Size, long RefillTime);

/// <summary><c>PUT /entropy</c>.</summary>
internal sealed record EntropyDevice;

/// <summary><c>PUT /vsock</c>: the guest's address, and the socket to which the host connects.</summary>
internal sealed record Vsock(int GuestCid, string UdsPath);

/// <summary><c>PATCH /vm</c>: <c>Paused</c> or <c>Resumed</c>.</summary>
internal sealed record Vm(string State);

/// <summary><c>PUT /snapshot/create</c>.</summary>
internal sealed record SnapshotCreateParams(string SnapshotType, string SnapshotPath, string MemFilePath);

/// <summary><c>PUT /snapshot/load</c>.</summary>
internal sealed record SnapshotLoadParams(string SnapshotPath, MemoryBackend MemBackend, bool ResumeVm);

/// <summary>Source of a restored guest's memory.</summary>
internal sealed record MemoryBackend(string BackendPath, string BackendType);

/// <summary><c>PUT /logger</c>.</summary>
internal sealed record Logger(string LogPath, string Level);

/// <summary><c>PUT /metrics</c>.</summary>
internal sealed record Metrics(string MetricsPath);

/// <summary><c>PUT /actions</c>.</summary>
internal sealed record InstanceActionInfo(string ActionType);

/// <summary>Answer to <c>GET /</c>.</summary>
internal sealed record InstanceInfo(string Id, string State, string VmmVersion);

/// <summary>Body of an error answer.</summary>
internal sealed record Error(string? FaultMessage);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(MachineConfiguration))]
[JsonSerializable(typeof(BootSource))]
[JsonSerializable(typeof(Drive))]
[JsonSerializable(typeof(NetworkInterface))]
[JsonSerializable(typeof(EntropyDevice))]
[JsonSerializable(typeof(Logger))]
[JsonSerializable(typeof(Metrics))]
[JsonSerializable(typeof(InstanceActionInfo))]
[JsonSerializable(typeof(Vsock))]
[JsonSerializable(typeof(Vm))]
[JsonSerializable(typeof(SnapshotCreateParams))]
[JsonSerializable(typeof(SnapshotLoadParams))]
[JsonSerializable(typeof(InstanceInfo))]
[JsonSerializable(typeof(Error))]
internal sealed partial class FirecrackerJson : JsonSerializerContext;
