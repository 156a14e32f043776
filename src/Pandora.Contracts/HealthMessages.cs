using System.Text.Json.Serialization;

namespace Pandora.Contracts;

/// <summary>Answer to <c>GET /health</c>.</summary>
/// <param name="Status"><c>ok</c>; <c>recovering</c> while it adopts the sandboxes of an earlier server; <c>not_protected</c> while what
/// keeps guests in is not whole, when no sandbox is handed out: <c>Notes</c> say what is missing.</param>
/// <param name="Version">Version of the server.</param>
/// <param name="PoolSize">MicroVMs that the default template's pool keeps warm.</param>
/// <param name="WarmVms">MicroVMs that are warm now, in all pools.</param>
/// <param name="ActiveSandboxes">Sandboxes in clients' hands now; for a key with the role <c>user</c> those of its project.</param>
/// <param name="MaxSandboxes">Most sandboxes that may exist at once.</param>
/// <param name="Instance">The instance id that is part of every host resource's name.</param>
/// <param name="Vmm">The VMM, its version and accelerator.</param>
/// <param name="Isolation">What the VMM is worth as a security boundary, for people.</param>
/// <param name="Notes">What an operator should know, such as missing limits; empty when all is well.</param>
/// <param name="MaxTimeout">Most seconds that a command may be given.</param>
/// <param name="MaxIdleTimeout">Most seconds of idleness that a sandbox may ask for.</param>
/// <param name="Capacity">What the server may give to sandboxes, and what they have; left out for a key with the role <c>user</c>, and by
/// an older server.</param>
/// <param name="Project">The project of the request's key; left out by an older server.</param>
/// <param name="HardwareIsolation">Whether hardware isolates guests; <c>false</c> when they are emulated, which is no security boundary;
/// left out by an older server.</param>
public sealed record Health(
    string Status, string Version, int PoolSize, int WarmVms, int ActiveSandboxes, int MaxSandboxes, string Instance,
    string Vmm, string Isolation, IReadOnlyList<string> Notes, double MaxTimeout = 0, double MaxIdleTimeout = 0,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] HealthCapacity? Capacity = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] HealthProject? Project = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] bool? HardwareIsolation = null);

/// <summary>The memory and the virtual CPUs that a server gives to sandboxes.</summary>
/// <param name="MemoryMib">MiB that all microVMs together may have: the host's memory less a reserve, times the overcommit. Each microVM
/// takes its guest's memory and what the VMM needs besides.</param>
/// <param name="UsedMemoryMib">MiB of them that sandboxes have.</param>
/// <param name="HeldMemoryMib">MiB of them that microVMs have: sandboxes, and microVMs that are warm, start or end. The warm ones give way
/// to sandboxes.</param>
/// <param name="Vcpus">Virtual CPUs that all microVMs together may have.</param>
/// <param name="UsedVcpus">Virtual CPUs of them that sandboxes have.</param>
/// <param name="HeldVcpus">Virtual CPUs of them that microVMs have.</param>
public sealed record HealthCapacity(
    long MemoryMib, long UsedMemoryMib, long HeldMemoryMib, int Vcpus, int UsedVcpus, int HeldVcpus);

/// <summary>A project's use of the server, and its bounds. A bound that is left out is the server's.</summary>
/// <param name="Name">Name of the project.</param>
/// <param name="Sandboxes">Its sandboxes, and its requests that wait for one.</param>
/// <param name="Vcpus">The virtual CPUs of them together.</param>
/// <param name="MemoryMib">The memory of them together, in MiB.</param>
/// <param name="MaxSandboxes">Most sandboxes that it may have at once.</param>
/// <param name="MaxVcpus">Most virtual CPUs of its sandboxes together.</param>
/// <param name="MaxMemoryMib">Most memory of its sandboxes together, in MiB.</param>
/// <param name="MaxLifetime">Most seconds that one of its sandboxes may live.</param>
/// <param name="Egress">The most that its sandboxes may reach: <c>internet</c> or <c>none</c>.</param>
/// <param name="Templates">The templates from which its sandboxes may start.</param>
public sealed record HealthProject(
    string Name, int Sandboxes, int Vcpus, long MemoryMib,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] int? MaxSandboxes = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] int? MaxVcpus = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] int? MaxMemoryMib = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] double? MaxLifetime = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Egress = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] IReadOnlyList<string>? Templates = null);
