using System.ComponentModel.DataAnnotations;
using System.Text.Json.Serialization;

namespace Pandora.Contracts;

/// <summary>Body of <c>POST /sandboxes</c>. Every field may be left out, and so may the body.</summary>
/// <param name="IdleTimeout">Seconds without activity after which the sandbox is ended: 10 to the longest lifetime of a sandbox, unless
/// the server has a lower cap. Default: the server's, 60.</param>
/// <param name="Template">Name of the template to start from. Default: <c>default</c>.</param>
/// <param name="Metadata">Free text pairs to find the sandbox again by; at most 16 KiB in all.</param>
/// <param name="Egress"><c>internet</c> or <c>none</c>. Default: the server's.</param>
/// <param name="MemoryMib">Memory in MiB, within the bounds of the template and of the project. Default: the template's.</param>
/// <param name="Vcpus">Number of virtual CPUs, within the same bounds. Default: the template's.</param>
/// <param name="DiskMib">Size of the disk in MiB, at least the template's, within the same bounds. Default: the template's.</param>
/// <param name="PublicPorts">Ports whose previews need neither key nor link: at most 64. Default: none.</param>
/// <param name="SshKeys">Public keys that may log in by SSH, as in <see cref="SshKeysRequest"/>. Default: none.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record CreateSandboxRequest(
    double? IdleTimeout = null,
    [property: StringLength(Limits.MaxTemplateLength, ErrorMessage = "must be at most {1} characters")] string? Template = null,
    IReadOnlyDictionary<string, string>? Metadata = null,
    [property: AllowedValues("internet", "none", null, ErrorMessage = "must be internet or none")] string? Egress = null,
    [property: Range(Limits.MinMemoryMib, Limits.MaxMemoryMib, ErrorMessage = "must be between {1} and {2}")] int? MemoryMib = null,
    [property: Range(1, Limits.MaxVcpus, ErrorMessage = "must be between {1} and {2}")] int? Vcpus = null,
    [property: Range(Limits.MinDiskMib, Limits.MaxDiskMib, ErrorMessage = "must be between {1} and {2}")] int? DiskMib = null,
    IReadOnlyList<int>? PublicPorts = null,
    IReadOnlyList<string>? SshKeys = null);

/// <summary>Body of <c>PUT /sandboxes/{id}/egress</c>.</summary>
/// <param name="Egress"><c>internet</c> or <c>none</c>. With <c>none</c>, connections that are open are cut.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record EgressRequest(
    [property: Required(ErrorMessage = "must be given")]
    [property: AllowedValues("internet", "none", ErrorMessage = "must be internet or none")] string Egress);

/// <summary>Answer to <c>POST /sandboxes</c>.</summary>
/// <param name="SandboxId">Opaque id, <c>^[a-z0-9]{20,}$</c>.</param>
/// <param name="SlotId">Number of the network slot that the sandbox occupies.</param>
/// <param name="GuestIp">Address by which the host reaches the guest.</param>
/// <param name="Warm">True when a microVM was ready and nothing had to be waited for.</param>
/// <param name="AcquireMs">Milliseconds that the server took to claim the microVM.</param>
/// <param name="IdleTimeout">Seconds without activity after which the sandbox is ended.</param>
/// <param name="Template">Name of the template it was started from.</param>
/// <param name="Start">How its microVM started: <c>snapshot</c>, restored from a snapshot, or <c>boot</c>. A size other than the template's
/// boots until a snapshot of that size exists. Left out when an earlier server started it.</param>
public sealed record SandboxCreated(
    string SandboxId, int SlotId, string GuestIp, bool Warm, double AcquireMs, double IdleTimeout, string Template,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Start = null);

/// <summary>One sandbox, as <c>GET /sandboxes</c> and <c>GET /sandboxes/{id}</c> show it.</summary>
/// <param name="SandboxId">Opaque id.</param>
/// <param name="SlotId">Number of its network slot.</param>
/// <param name="GuestIp">Address by which the host reaches the guest.</param>
/// <param name="AgeSeconds">Seconds since it was claimed.</param>
/// <param name="IdleSeconds">Seconds since the last activity that worked; 0 while a command runs or its result is being read.</param>
/// <param name="IdleTimeout">Seconds of idleness after which it is ended.</param>
/// <param name="ExecCount">Commands started in it so far.</param>
/// <param name="Template">Name of its template.</param>
/// <param name="Egress"><c>internet</c> or <c>none</c>.</param>
/// <param name="Metadata">The pairs given at creation.</param>
/// <param name="State"><c>running</c>; <c>recovering</c> while a server that has just started does not know yet whether it lives on;
/// <c>degraded</c> while it waits for room on the host's disk, or once its disk has lost data.</param>
/// <param name="StateReason">Why it is not simply running; left out when it is.</param>
/// <param name="Project">Name of its project.</param>
/// <param name="MemoryMib">Its memory in MiB; left out when it is not known.</param>
/// <param name="Vcpus">Number of its virtual CPUs; left out when it is not known.</param>
/// <param name="DiskMib">Size of its disk in MiB; left out when it is not known.</param>
public sealed record SandboxInfo(
    string SandboxId, int SlotId, string GuestIp, double AgeSeconds, double IdleSeconds, double IdleTimeout, int ExecCount,
    string Template, string Egress, IReadOnlyDictionary<string, string> Metadata, string State = "running",
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? StateReason = null,
    string Project = "default",
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] int? MemoryMib = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] int? Vcpus = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] int? DiskMib = null);

/// <summary>Body of <c>POST /sandboxes/{id}/exec</c>.</summary>
/// <param name="Code">Shell text, run by bash; at most 1 MiB of UTF-8, without NUL. Empty text does nothing, with exit code 0.</param>
/// <param name="Timeout">Seconds after which the command is killed with what it started: 1 to the longest lifetime of a sandbox.
/// Default, and what null means: 30.</param>
/// <param name="Cwd">Directory to run in. Default: the user's home.</param>
/// <param name="Env">Environment variables, at most 64 KiB in all.</param>
/// <param name="User">User to run as: a name, or a number. Default: root.</param>
/// <param name="Stdin">Standard input, at most 10 MiB of bytes, which may include NUL. Default: empty.</param>
/// <param name="StdinEncoding">How <c>stdin</c> is written: <c>utf-8</c>, as text, or <c>base64</c>. Default: <c>utf-8</c>.</param>
/// <param name="Encoding">How the answer writes <c>stdout</c> and <c>stderr</c>: <c>utf-8</c>, as text, or <c>base64</c>, which has each
/// byte as the command wrote it. Default: <c>utf-8</c>.</param>
/// <param name="Merge">True writes both outputs to <c>stdout</c>, in their order; <c>stderr</c> is then empty. Default: false.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record ExecRequest(
    [property: Required(AllowEmptyStrings = true, ErrorMessage = "must be given, as text")] string Code,
    [property: Range(Limits.MinExecTimeout, double.MaxValue, ErrorMessage = "must be at least {1} second")]
    double? Timeout = Limits.DefaultExecTimeout,
    [property: StringLength(Limits.MaxCwdLength, ErrorMessage = "must be at most {1} characters")] string? Cwd = null,
    IReadOnlyDictionary<string, string>? Env = null,
    [property: StringLength(Limits.MaxUserLength, ErrorMessage = "must be at most {1} characters")] string? User = null,
    [property: JsonConverter(typeof(LongTextConverter))] string? Stdin = null,
    [property: AllowedValues(ByteEncodings.Utf8, ByteEncodings.Base64, null, ErrorMessage = "must be utf-8 or base64")]
    string? StdinEncoding = null,
    [property: AllowedValues(ByteEncodings.Utf8, ByteEncodings.Base64, null, ErrorMessage = "must be utf-8 or base64")]
    string? Encoding = null,
    bool? Merge = null);

/// <summary>The values of <see cref="ExecRequest.StdinEncoding"/> and <see cref="ExecRequest.Encoding"/>: how bytes are written in
/// JSON.</summary>
public static class ByteEncodings
{
    /// <summary>As text. In an answer, bytes that are not UTF-8 become U+FFFD.</summary>
    public const string Utf8 = "utf-8";

    /// <summary>As base64 (RFC 4648, section 4), with padding.</summary>
    public const string Base64 = "base64";
}

/// <summary>
/// Answer to <c>POST /sandboxes/{id}/exec</c>. A command that failed is a result, not an error of the API. A plain answer has the first
/// five members and no more, because the original's client takes no
/// others; each flag is there only when it is true.
/// </summary>
/// <param name="SandboxId">The sandbox it ran in.</param>
/// <param name="ExitCode">Exit code; 128 + n when bash was ended by signal n.</param>
/// <param name="Stdout">Standard output, at most 10 MiB; as text, where bytes that are not UTF-8 become U+FFFD, or as base64 if the request
/// asked for it.</param>
/// <param name="Stderr">Standard error, likewise; empty when the request asked to merge the outputs.</param>
/// <param name="ExecMs">Milliseconds from the server's start of the command to its end.</param>
/// <param name="Truncated">True when either output was longer than is kept; else left out.</param>
/// <param name="Lossy">True when bytes of an output were not UTF-8 and became U+FFFD; else left out, as always with base64.</param>
/// <param name="Oom">True when the guest's memory was full and its kernel killed a process of the command; else left out.</param>
/// <param name="MemoryLimitBytes">With <c>oom</c>, the limit that was reached, in bytes; else left out.</param>
/// <param name="DiskLostData">True when the sandbox's disk has lost data that the guest had written; else left out.</param>
public sealed record ExecResponse(
    string SandboxId, int ExitCode,
    [property: JsonConverter(typeof(LongTextConverter))] string Stdout,
    [property: JsonConverter(typeof(LongTextConverter))] string Stderr,
    double ExecMs,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] bool? Truncated = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] bool? Lossy = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] bool? Oom = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] long? MemoryLimitBytes = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] bool? DiskLostData = null);

/// <summary>Answer to <c>DELETE /sandboxes/{id}?receipt=true</c>: what was undone and how long it took.</summary>
/// <param name="SandboxId">The sandbox that ended.</param>
/// <param name="Reason">Why it ended.</param>
/// <param name="LifetimeSeconds">Seconds from claim to end.</param>
/// <param name="ExecCount">Commands that were started in it.</param>
/// <param name="TeardownMs">Milliseconds until the guest was dead and its files gone.</param>
/// <param name="Resources">Each host resource, in the order it was undone.</param>
/// <param name="Left">How many of them are still there, as checked on the host afterwards; 0 is the promise.</param>
/// <param name="Isolation">What the VMM is worth as a security boundary.</param>
public sealed record Receipt(
    string SandboxId, string Reason, double LifetimeSeconds, int ExecCount, double TeardownMs,
    IReadOnlyList<ReceiptResource> Resources, int Left, string Isolation);

/// <summary>One host resource on a <see cref="Receipt"/>.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Name">Its name or path on the host.</param>
/// <param name="Ms">Milliseconds that undoing it took.</param>
/// <param name="Gone">Whether the host no longer has it.</param>
/// <param name="Error">What went wrong, or null.</param>
public sealed record ReceiptResource(string Kind, string Name, double Ms, bool Gone, string? Error);
