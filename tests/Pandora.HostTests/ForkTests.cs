using Pandora.Client;
using Pandora.Prove.Checks;

namespace Pandora.HostTests;

/// <summary>
/// Fork correctness, as <c>docs/fork-correctness.md</c> publishes it: twenty restored microVMs at once, and the checks of './pandora
/// prove'.
/// </summary>
public sealed class ForkTests(StageFixture fixture) : IClassFixture<StageFixture>
{
    // The first check compares a few microVMs. The test below compares twenty in the same way.
    public static TheoryData<string> Names => [.. Forks.All.Skip(1).Select(c => c.Name)];

    [Fact]
    public async Task Twenty_restored_microVMs_share_nothing() =>
        Assert.StartsWith("20 compared", await Forks.NothingSharedAsync(fixture.Stage, 20));

    [Theory]
    [MemberData(nameof(Names))]
    public async Task The_check_holds(string name)
    {
        await using Sandbox sandbox = await fixture.Stage.Server.Pandora.CreateAsync();
        Assert.NotEmpty(await Forks.All.Single(c => c.Name == name).RunAsync(fixture.Stage, sandbox));
    }
}
