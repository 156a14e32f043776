using Microsoft.Extensions.Time.Testing;
using Pandora.Engine;
using Pandora.Engine.Admission;
using Pandora.Engine.Projects;

namespace Pandora.Tests.Engine.Admission;

/// <summary>Counts, quotas and the budget of the host.</summary>
public sealed class AdmissionTests
{
    private const long MiB = 1024 * 1024;
    private static readonly MicroVmSize Small = new(256, 1, 2048), Large = new(1024, 4, 2048);
    private readonly FakeTimeProvider _time = new();
    private readonly Dictionary<string, Project> _projects = [];

    [Fact]
    public void The_budget_is_the_host_less_a_reserve_times_the_overcommit()
    {
        var budget = BudgetOf(memory: 9000, processors: 4, o => (o.MemoryReserve, o.MemoryOvercommit, o.CpuOvercommit) = (1000, 1.5, 2));
        Assert.Equal((12_000, 8), (budget.MemoryMib, budget.Vcpus));
        Assert.Equal(256 + 64, budget.MemoryOf(Small));
        // A reserve above what the host has leaves nothing, and no negative budget.
        Assert.Equal(0, BudgetOf(memory: 500, processors: 1, o => o.MemoryReserve = 1000).MemoryMib);
    }

    [Fact]
    public void A_microVM_holds_its_part_once_and_gives_it_back_once()
    {
        var budget = BudgetOf(memory: 1000, processors: 4);
        var (first, second) = (budget.TryTake(Small)!, budget.TryTake(Small)!);
        Assert.NotNull(budget.TryTake(Small));
        Assert.Null(budget.TryTake(Small));
        Assert.Equal((960, 3), budget.Held);
        first.Release();
        first.Release();
        Assert.Equal((640, 2), budget.Held);
        second.Release();
        Assert.Equal((320, 1), budget.Held);
        // One that exists already is counted even over the budget.
        var existing = budget.TakeExisting(Large);
        Assert.Equal((320 + 1088, 5), budget.Held);
        Assert.False(budget.HasRoomToWarm(Small));
        existing.Release();
        Assert.True(budget.HasRoomToWarm(Small));
    }

    [Fact]
    public async Task A_start_that_a_client_waits_for_goes_before_one_that_warms_up()
    {
        var budget = BudgetOf(memory: 700, processors: 8);
        var (a, b) = (budget.TryTake(Small)!, budget.TryTake(Small)!);
        var warm = new Queue<HostBudget.Hold>([a]);
        var asked = 0;
        var ending = new TaskCompletionSource();
        budget.GiveWay = missing =>
        {
            asked++;
            Assert.Equal(new HostBudget.Room(260, -5), missing);
            return warm.TryDequeue(out _) ? ending.Task : null;
        };
        var taking = budget.TakeAsync(Small, isAwaited: () => true, _time, CancellationToken.None);
        Assert.Equal(1, asked);
        // While it ends no other one must.
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(1, asked);
        Assert.True(budget.IsShort);
        // The microVM that gives way has not ended yet, and the room of another goes to the client all the same.
        Assert.Null(budget.TryTake(Small));
        b.Release();
        var hold = await taking;
        Assert.NotNull(hold);
        Assert.False(budget.IsShort);
        Assert.False(budget.HasRoomToWarm(Small));
        a.Release();
        Assert.True(budget.HasRoomToWarm(Small));
        hold.Release();
        Assert.Equal((0, 0), budget.Held);
    }

    [Fact]
    public async Task A_start_that_nobody_waits_for_any_more_takes_nothing()
    {
        var budget = BudgetOf(memory: 400, processors: 8);
        var other = budget.TryTake(Small);
        var isAwaited = true;
        var taking = budget.TakeAsync(Small, () => isAwaited, _time, CancellationToken.None);
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.False(taking.IsCompleted);
        isAwaited = false;
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Null(await taking);
        using var stopping = new CancellationTokenSource();
        taking = budget.TakeAsync(Small, () => true, _time, stopping.Token);
        await stopping.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => taking);
        other!.Release();
        Assert.True(budget.HasRoomToWarm(Small));
    }

    [Fact]
    public void A_quota_holds_for_a_project_and_says_what_is_used()
    {
        _projects["a"] = new Project("a") { MaxSandboxes = 2, MaxVcpus = 6, MaxMemoryMib = 2000 };
        var admissions = AdmissionsOf(BudgetOf(memory: 100_000, processors: 100));
        admissions.Reserve("a", Small);
        admissions.Reserve("a", Large);
        AssertRefused(PandoraError.QuotaExceeded, "uses 2 of its 2 sandboxes", () => admissions.Reserve("a", Small));
        // What it may never have is said first.
        AssertRefused(
            PandoraError.AboveCeiling, "may have 6 virtual CPUs", () => admissions.Reserve("a", Small with { Vcpus = 7 }));
        // Another project has no part in it.
        admissions.Reserve("b", Large);
        Assert.Equal(new ProjectUse(2, 5, 1280), admissions.UseOf("a"));
        admissions.Release("a", Small);
        AssertRefused(
            PandoraError.QuotaExceeded, "uses 1024 of its 2000 MiB of memory", () => admissions.Reserve("a", Large with { Vcpus = 1 }));
        AssertRefused(
            PandoraError.QuotaExceeded, "uses 4 of its 6 virtual CPUs", () => admissions.Reserve("a", Small with { Vcpus = 3 }));
        var above = AssertRefused(
            PandoraError.AboveCeiling, "may have 2000 MiB", () => admissions.Reserve("a", Small with { MemoryMib = 2001 }));
        Assert.Equal("memory_mib", above.Field);
        admissions.Release("a", Large);
        // Of a project without sandboxes nothing is remembered.
        Assert.Equal(["b"], admissions.Uses.Keys);
    }

    [Fact]
    public void A_lowered_quota_ends_nothing_and_admits_nothing()
    {
        _projects["a"] = new Project("a") { MaxSandboxes = 3 };
        var admissions = AdmissionsOf(BudgetOf(memory: 100_000, processors: 100));
        admissions.Reserve("a", Small);
        admissions.Reserve("a", Small);
        _projects["a"] = new Project("a") { MaxSandboxes = 1 };
        AssertRefused(PandoraError.QuotaExceeded, "uses 2 of its 1", () => admissions.Reserve("a", Small));
        _projects["a"] = new Project("a") { MaxSandboxes = 0 };
        AssertRefused(PandoraError.AboveCeiling, "may have 0", () => admissions.Reserve("a", Small));
    }

    [Fact]
    public void The_hosts_memory_and_processors_bound_all_sandboxes_together()
    {
        var admissions = AdmissionsOf(BudgetOf(memory: 1400, processors: 6));
        admissions.AddExisting("a", Large);
        AssertRefused(PandoraError.HostFull, "have 1088 of the 1400 MiB", () => admissions.Admit(Small));
        AssertRefused(PandoraError.HostFull, "MiB", () => admissions.Reserve("b", Small));
        var wide = new MicroVmSize(128, 3, 2048);
        AssertRefused(PandoraError.HostFull, "have 4 of the 6 virtual CPUs", () => admissions.Admit(wide));
        admissions.Dismiss(Large);
        admissions.Release("a", Large);
        admissions.Admit(Small);
        Assert.Equal((1, (320, 1)), (admissions.Count, admissions.Used));
    }

    [Fact]
    public async Task Simultaneous_claims_never_pass_a_bound_together()
    {
        _projects["a"] = new Project("a") { MaxMemoryMib = 10 * 256 };
        var admissions = AdmissionsOf(BudgetOf(memory: 100_000, processors: 1000), most: 7);
        var (reserved, admitted, refused) = (0, 0, 0);
        await Task.WhenAll(Enumerable.Range(0, 64).Select(_ => Task.Run(() =>
        {
            try
            {
                admissions.Reserve("a", Small);
                Interlocked.Increment(ref reserved);
                admissions.Admit(Small);
                Interlocked.Increment(ref admitted);
            }
            catch (PandoraException)
            {
                Interlocked.Increment(ref refused);
            }
        })));
        Assert.InRange(reserved, 7, 10);
        Assert.Equal((7, 57), (admitted, refused));
        Assert.Equal(7, admissions.Count);
    }

    private static PandoraException AssertRefused(PandoraError error, string words, Action action)
    {
        var exception = Assert.Throws<PandoraException>(action);
        Assert.Equal(error, exception.Error);
        Assert.Contains(words, exception.Message, StringComparison.Ordinal);
        return exception;
    }

    private static HostBudget BudgetOf(long memory, int processors, Action<EngineOptions>? set = null)
    {
        var options = new EngineOptions { MemoryReserve = 0, CpuOvercommit = 1 };
        set?.Invoke(options);
        return new HostBudget(new HostCapacity(memory, processors), options, 64 * MiB);
    }

    private Admissions AdmissionsOf(HostBudget budget, int most = 100) =>
        new(most, budget, name => _projects.GetValueOrDefault(name, new Project(name)));
}
