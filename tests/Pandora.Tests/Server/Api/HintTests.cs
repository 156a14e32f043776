using System.Text.RegularExpressions;
using Pandora.Client;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Api;

/// <summary>
/// The message of an error says what happened. What only an operator can do, such as a setting or a command of the checkout, is the hint.
/// </summary>
public sealed partial class HintTests
{
    [Fact]
    public void No_message_to_a_client_names_a_setting_or_a_command_of_the_operators()
    {
        var calls = new[] { "Pandora.Engine", "Pandora.Server", "Pandora.Client" }
            .SelectMany(p => Directory.EnumerateFiles(Repository.PathOf($"src/{p}"), "*.cs", SearchOption.AllDirectories))
            .SelectMany(f => Calls(File.ReadAllText(f)).Select(c => (File: Path.GetFileName(f), Call: c))).ToList();
        Assert.True(calls.Count > 60, $"only {calls.Count} places were found");
        Assert.All(calls, c => Assert.False(OperatorsPattern().IsMatch(HintPattern().Replace(c.Call, "")), $"{c.File}: {c.Call}"));
    }

    [Fact]
    public async Task The_hint_is_a_member_of_the_problem_and_of_the_clients_exception()
    {
        await using var api = await FakeServer.StartAsync(options: new EngineOptions { PoolSize = 1, MaxSandboxes = 1, MaxLifetime = 60 });
        using var pandora = new PandoraClient(api.Http);
        var unknown = await Assert.ThrowsAsync<InvalidRequestException>(() =>
            pandora.CreateAsync(new CreateSandboxOptions { Template = "nope" }));
        Assert.Equal(
            ("template: there is no template 'nope'", "'./pandora template ls' lists the templates"), (unknown.Message, unknown.Hint));
        var id = await api.CreateAsync();
        var full = await api.SendAsync(HttpMethod.Post, "/sandboxes");
        Assert.Equal("1 sandboxes exist, and at most 1 may: delete one, or try again when one has ended",
            full.Body.GetProperty("detail").GetString());
        Assert.Equal("PANDORA_MAX_SANDBOXES sets how many may exist", full.Body.GetProperty("hint").GetString());
        api.Node.Time.Advance(TimeSpan.FromSeconds(60));
        await api.Node.Sandboxes.ReapAsync();
        var ended = await Assert.ThrowsAsync<SandboxNotFoundException>(() => pandora.GetAsync(id));
        Assert.Contains("PANDORA_MAX_LIFETIME", ended.Hint);
        Assert.DoesNotContain("PANDORA_", ended.Message);
        // Without a hint the member is omitted.
        Assert.False((await api.SendAsync(HttpMethod.Get, "/sandboxes/nope")).Body.TryGetProperty("hint", out _));
    }

    [Fact]
    public async Task The_error_for_an_unreachable_server_has_a_hint()
    {
        using var pandora = new PandoraClient("http://127.0.0.1:1");
        var unreachable = await Assert.ThrowsAsync<ServerUnreachableException>(() => pandora.GetHealthAsync());
        Assert.Equal("'./pandora up' starts one", unreachable.Hint);
        Assert.DoesNotContain("./pandora", unreachable.Message);
    }

    [Fact]
    public async Task The_reason_of_failed_boots_is_in_the_hint()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 0, AcquireTimeout = 5 })
        {
            BootFailure = new InvalidOperationException("PANDORA_X: no disk"),
        };
        var creating = node.Sandboxes.CreateAsync(new SandboxRequest(), default);
        await FakeNode.UntilAsync(() => node.BootAttempts > 0 && node.Pool.BootingCount == 0);
        await using var clock = node.RunClock();
        var refused = await Assert.ThrowsAsync<PandoraException>(() => creating);
        Assert.Equal((PandoraError.PoolEmpty, "no microVM became ready within 5 s"), (refused.Error, refused.Message));
        Assert.StartsWith("the last boot failed: boot failed at step 'vmm': PANDORA_X: no disk", refused.Hint);
    }

    // The arguments of each call that makes an error, up to the closing bracket.
    private static IEnumerable<string> Calls(string source)
    {
        foreach (Match start in CallPattern().Matches(source))
        {
            var depth = 1;
            var end = start.Index + start.Length;
            for (; end < source.Length && depth > 0; end++)
            {
                depth += source[end] switch { '(' => 1, ')' => -1, _ => 0 };
            }

            yield return source[start.Index..end];
        }
    }

    [GeneratedRegex(
        @"(new (PandoraException|SandboxEnd|ServerUnreachableException)|PandoraException\.\w+|Problems\.Create)\("
        + @"|\bnew\(\s*PandoraError|\bCreate\(\s*(ErrorCodes\.|code,)")]
    private static partial Regex CallPattern();

    [GeneratedRegex(@"hint: *\$?""[^""]*""|(?<=BaseAddress\}""), *""[^""]*""")]
    private static partial Regex HintPattern();

    [GeneratedRegex(@"PANDORA_|\./pandora")]
    private static partial Regex OperatorsPattern();
}
