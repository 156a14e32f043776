using Pandora.Load;

namespace Pandora.Tests.Load;

public sealed class SloTests
{
    private static readonly LatencySummary Some = new(10, 1, 2, 3, 4, 5, 6, 7);

    private static readonly LoadReport Report = new()
    {
        At = default,
        Machine = new("", "", "", 1, 1),
        Server = new("", "", "", 1, 1),
        Plan = new(),
        WallSeconds = 2,
        IsInterrupted = false,
        Succeeded = 8,
        Failed = 2,
        Cold = 0,
        Execs = 0,
        SlotsUsed = 1,
        Errors = new Dictionary<string, int>(),
        Leaks = new(0, 0, 0, null),
        Latency = new Dictionary<string, TwoSides>
        {
            ["acquire"] = new(Some, Some with { P99 = 0.5 }),
            ["first_exec"] = new(Some, Some),
            ["exec"] = new(null, null),
            ["delete"] = new(Some, null),
            ["total"] = new(Some, null),
        },
    };

    [Theory]
    [InlineData("acquire.p99<5ms", 5.0, false)]
    [InlineData("acquire.p99<=5ms", 5.0, true)]
    [InlineData("acquire.p99 < 0.006 s", 5.0, true)]
    [InlineData("acquire.server.p99<501us", 0.5, true)]
    [InlineData("delete.max>6ms", 7.0, true)]
    [InlineData("errors<20%", 20.0, false)]
    [InlineData("errors<=20%", 20.0, true)]
    [InlineData("throughput>=4", 4.0, true)]
    [InlineData("exec.p50<1s", null, false)]
    [InlineData("delete.server.p50<1s", null, false)]
    public void An_objective_is_compared_with_the_measured_value(string text, double? actual, bool isMet)
    {
        var result = Slo.Parse(text).Check(Report);
        Assert.Equal((text, actual, isMet), (result.Objective, result.Actual, result.IsMet));
    }

    [Theory]
    [InlineData("acquire<5ms")]
    [InlineData("acquire.p99<5")]
    [InlineData("acquire.p95<5ms")]
    [InlineData("total.server.p99<5ms")]
    [InlineData("errors<1")]
    [InlineData("throughput>1ms")]
    [InlineData("acquire.p99=5ms")]
    [InlineData("")]
    public void Text_that_is_no_objective_is_refused(string text) => Assert.Throws<FormatException>(() => Slo.Parse(text));
}
