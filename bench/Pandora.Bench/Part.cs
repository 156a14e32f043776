namespace Pandora.Bench;

/// <summary>One part of the benchmark.</summary>
/// <param name="Name">Its name for <c>--only</c>.</param>
/// <param name="RunAsync">Measures it.</param>
internal sealed record Part(string Name, Func<Target, Task<IReadOnlyList<Result>>> RunAsync)
{
    /// <summary>All parts, in the order in which they run.</summary>
    public static IReadOnlyList<Part> All { get; } =
    [
        new("pool", target => WithServerAsync(target, 4, PoolBench.RunAsync)),
        new("exec", target => WithServerAsync(target, 2, ExecBench.RunAsync)),
        new("growth", target => WithServerAsync(target, 2, async s => [await ExecBench.GrowthAsync(s)])),
        new("boot", async target => [await BootBench.RunAsync(target)]),
        new("snapshot", SnapshotBench.RunAsync),
        new("agent", AgentBench.RunAsync),
        new("streams", StreamBench.RunAsync) { WhyNotFirecracker = "compares with the channel of QEMU" },
        new("files", target => WithServerAsync(target, 1, FileBench.RunAsync)),
        new("ports", PortBench.RunAsync) { WhyNotFirecracker = "compares with the channel of QEMU" },
        new("e2b", target => WithServerAsync(target, 2, s => E2bBench.RunAsync(s, target)))
        {
            WhyNotFirecracker = "measures the front end, which does not depend on the VMM",
        },
        new("mcp", target => WithServerAsync(target, 2, McpBench.RunAsync))
        {
            WhyNotFirecracker = "measures the front end, which does not depend on the VMM",
        },
        new("aged", AgedBench.RunAsync) { IsOnRequest = true },
        new("footprint", target => WithServerAsync(target, 2, FootprintBench.RunAsync)),
        new("looking", ObservabilityBench.RunAsync) { WhyNotFirecracker = "does not depend on the VMM" },
        new("overload", _ => OverloadBench.RunAsync()) { WhyNotFirecracker = "uses no VMM" },
        new("fairness", _ => FairnessBench.RunAsync()) { WhyNotFirecracker = "uses no VMM" },
        new("keys", _ => KeyBench.RunAsync()) { WhyNotFirecracker = "uses no VMM" },
        new("adoption", AdoptionBench.RunAsync),
        new("walls", NetworkProtectionBench.RunAsync) { WhyNotFirecracker = "does not depend on the VMM" },
        new("driver", async target => [await DriverBench.RunAsync(target)]) { WhyNotQemu = "measures the calls of Firecracker's API" },
    ];

    /// <summary>Whether the part runs only when <c>--only</c> names it.</summary>
    public bool IsOnRequest { get; private init; }

    /// <summary>Why the part is not measured on Firecracker; null when it is.</summary>
    public string? WhyNotFirecracker { get; private init; }

    /// <summary>Why the part is not measured on QEMU; null when it is.</summary>
    public string? WhyNotQemu { get; private init; }

    /// <summary>Why a part cannot be measured on a VMM, as a sentence; null when it can.</summary>
    public static string? WhyNot(string? only, bool isFirecracker)
    {
        var why = All.FirstOrDefault(p => p.Name == only)?.WhyNotOn(isFirecracker);
        var (vmm, other) = isFirecracker ? ("firecracker", "qemu") : ("qemu", "firecracker");
        return why is null ? null : $"'{only}' is not measured on {vmm}, because it {why}: use --vmm {other}";
    }

    /// <summary>The parts to run.</summary>
    public static IReadOnlyList<Part> Choose(string? only, bool isFirecracker) =>
        [.. All.Where(p => (only is null ? !p.IsOnRequest : p.Name == only) && p.WhyNotOn(isFirecracker) is null)];

    private string? WhyNotOn(bool isFirecracker) => isFirecracker ? WhyNotFirecracker : WhyNotQemu;

    private static async Task<IReadOnlyList<Result>> WithServerAsync(
        Target target, int poolSize, Func<BenchServer, Task<IReadOnlyList<Result>>> run)
    {
        await using var server = await BenchServer.StartAsync(target, poolSize);
        return await run(server);
    }
}
