using System.Text.Json.Serialization;

namespace Pandora.Load;

/// <summary>What came of a load.</summary>
public sealed record LoadReport
{
    /// <summary>When it began.</summary>
    public required DateTimeOffset At { get; init; }

    /// <summary>Where the client ran.</summary>
    public required Machine Machine { get; init; }

    /// <summary>What the server said of itself.</summary>
    public required LoadServer Server { get; init; }

    /// <summary>What was asked for.</summary>
    public required LoadPlan Plan { get; init; }

    /// <summary>Seconds from the first start to the last end.</summary>
    public required double WallSeconds { get; init; }

    /// <summary>Whether it was stopped before its end.</summary>
    public required bool IsInterrupted { get; init; }

    /// <summary>Sandboxes that were claimed, ran every command with exit code 0 and were deleted.</summary>
    public required int Succeeded { get; init; }

    /// <summary>All others that were started.</summary>
    public required int Failed { get; init; }

    /// <summary>Sandboxes for which no microVM was warm.</summary>
    public required int Cold { get; init; }

    /// <summary>Commands that returned.</summary>
    public required long Execs { get; init; }

    /// <summary>Network slots that were seen.</summary>
    public required int SlotsUsed { get; init; }

    /// <summary>Failures by operation and code, such as <c>create.pool_empty</c>.</summary>
    public required IReadOnlyDictionary<string, int> Errors { get; init; }

    /// <summary>
    /// Times in milliseconds: <c>acquire</c>, <c>first_exec</c>, <c>exec</c> (the later ones), <c>delete</c>, <c>total</c>.
    /// </summary>
    public required IReadOnlyDictionary<string, TwoSides> Latency { get; init; }

    /// <summary>What was looked for at the end.</summary>
    public required LeakReport Leaks { get; init; }

    /// <summary>Objectives and whether they were met.</summary>
    public IReadOnlyList<SloResult> Slo { get; init; } = [];

    /// <summary>Sandboxes that ended well, a second.</summary>
    public double SandboxesPerSecond => WallSeconds > 0 ? Math.Round(Succeeded / WallSeconds, 3) : 0;

    /// <summary>Commands a second.</summary>
    public double ExecsPerSecond => WallSeconds > 0 ? Math.Round(Execs / WallSeconds, 3) : 0;
}

/// <summary>What a server says of itself.</summary>
/// <param name="Url">Its address.</param>
/// <param name="Version">Its version.</param>
/// <param name="Vmm">VMM and accelerator.</param>
/// <param name="PoolSize">MicroVMs that it keeps warm.</param>
/// <param name="MaxSandboxes">Most sandboxes at once.</param>
public sealed record LoadServer(string Url, string Version, string Vmm, int PoolSize, int MaxSandboxes);

/// <summary>What is left on the server when the load is over. All zero is as it should be.</summary>
/// <param name="Sandboxes">Sandboxes of this load that the server still lists; null when it did not answer.</param>
/// <param name="Slots">Network slots held by no sandbox, warm or booting microVM; null when the server's metrics could not be read.</param>
/// <param name="TeardownErrors">Host resources that could not be undone meanwhile; null as above.</param>
/// <param name="Leaked">Resources on the server's host that belong to nobody, as its own audit last saw them; null when it tells
/// none.</param>
/// <param name="Note">Why something could not be looked at.</param>
public sealed record LeakReport(int? Sandboxes, int? Slots, int? TeardownErrors, int? Leaked, string? Note = null)
{
    /// <summary>Whether nothing was found.</summary>
    public bool IsClean => Sandboxes == 0 && Slots is null or 0 && TeardownErrors is null or 0 && Leaked is null or 0;
}

/// <summary>JSON of a report.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    WriteIndented = true,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(LoadReport))]
public sealed partial class LoadJson : JsonSerializerContext;
