using System.Text.Json.Serialization;

namespace Pandora.Load;

/// <summary>The result of a load.</summary>
public sealed record LoadReport
{
    /// <summary>When the load began.</summary>
    public required DateTimeOffset At { get; init; }

    /// <summary>The machine that the client ran on.</summary>
    public required Machine Machine { get; init; }

    /// <summary>The server, as it describes itself.</summary>
    public required LoadServer Server { get; init; }

    /// <summary>The requested load.</summary>
    public required LoadPlan Plan { get; init; }

    /// <summary>Seconds from the first start of a sandbox to the last end.</summary>
    public required double WallSeconds { get; init; }

    /// <summary>Whether the load was stopped before its end.</summary>
    public required bool IsInterrupted { get; init; }

    /// <summary>Sandboxes that were created, ran every command with exit code 0 and were deleted.</summary>
    public required int Succeeded { get; init; }

    /// <summary>All other sandboxes that were started.</summary>
    public required int Failed { get; init; }

    /// <summary>Sandboxes for which no microVM was warm.</summary>
    public required int Cold { get; init; }

    /// <summary>Commands that returned.</summary>
    public required long Execs { get; init; }

    /// <summary>Number of different network slots that the sandboxes had.</summary>
    public required int SlotsUsed { get; init; }

    /// <summary>Failures by operation and code, such as <c>create.pool_empty</c>.</summary>
    public required IReadOnlyDictionary<string, int> Errors { get; init; }

    /// <summary>
    /// Times in milliseconds: <c>acquire</c>, <c>first_exec</c>, <c>exec</c> (the later ones), <c>delete</c>, <c>total</c>.
    /// </summary>
    public required IReadOnlyDictionary<string, TwoSides> Latency { get; init; }

    /// <summary>What remained on the server at the end.</summary>
    public required LeakReport Leaks { get; init; }

    /// <summary>Objectives and whether they were met.</summary>
    public IReadOnlyList<SloResult> Slo { get; init; } = [];

    /// <summary>Sandboxes that succeeded, per second.</summary>
    public double SandboxesPerSecond => WallSeconds > 0 ? Math.Round(Succeeded / WallSeconds, 3) : 0;

    /// <summary>Commands per second.</summary>
    public double ExecsPerSecond => WallSeconds > 0 ? Math.Round(Execs / WallSeconds, 3) : 0;
}

/// <summary>A server, as it describes itself.</summary>
/// <param name="Url">Its address.</param>
/// <param name="Version">Its version.</param>
/// <param name="Vmm">VMM and accelerator.</param>
/// <param name="PoolSize">Size of its warm pool.</param>
/// <param name="MaxSandboxes">Highest number of sandboxes at once.</param>
public sealed record LoadServer(string Url, string Version, string Vmm, int PoolSize, int MaxSandboxes);

/// <summary>What remains on the server after the load. All values should be zero.</summary>
/// <param name="Sandboxes">Sandboxes of this load that the server still lists; null when it did not answer.</param>
/// <param name="Slots">Network slots held by no sandbox, warm or booting microVM; null when the server's metrics could not be read.</param>
/// <param name="TeardownErrors">Host resources that could not be cleaned up during the load; null as above.</param>
/// <param name="Leaked">Orphans on the server's host, as the server's last audit counted them; null when it reports no number.</param>
/// <param name="Note">Why a value could not be read.</param>
public sealed record LeakReport(int? Sandboxes, int? Slots, int? TeardownErrors, int? Leaked, string? Note = null)
{
    /// <summary>Whether no leak was found.</summary>
    public bool IsClean => Sandboxes == 0 && Slots is null or 0 && TeardownErrors is null or 0 && Leaked is null or 0;
}

/// <summary>JSON of a report.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    WriteIndented = true,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(LoadReport))]
public sealed partial class LoadJson : JsonSerializerContext;
