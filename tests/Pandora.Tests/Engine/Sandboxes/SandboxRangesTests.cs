using System.Text.Json;
using System.Text.Json.Nodes;
using Pandora.Engine;
using Pandora.Engine.Projects;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

/// <summary>Ranges in a sandbox's egress: claims, changes, ceilings, and what a record gives after a crash.</summary>
public sealed class SandboxRangesTests
{
    private static readonly EgressPolicy
        Internet = new(Egress.Internet),
        None = new(Egress.None),
        OneAllowed = None with { Allow = [Parse("8.8.8.8")] },
        OtherAllowed = None with { Allow = [Parse("9.9.9.0/24")] },
        OneDenied = Internet with { Allow = [Parse("8.8.8.8")], Deny = [Parse("8.8.0.0/16")] };

    [Fact]
    public async Task Claim_record_rules_and_status_have_the_ranges_and_a_successor_restores_them()
    {
        await using var node = new FakeNode();
        var claimed = await CreateAsync(node, OneDenied);
        var changed = await CreateAsync(node);
        Assert.False(node.Network.Policies.ContainsKey(changed.Id));
        await changed.SetEgressAsync(OneAllowed, default);
        Assert.Equal((OneDenied, OneAllowed), (claimed.Status.Egress, changed.Status.Egress));
        Assert.Equal("""["8.8.0.0/16"]""", Record(node, claimed.Id)["egress_deny"]!.ToJsonString());

        node.Network.Policies.Clear();
        await node.RestartAsync(isKilled: true);
        foreach (var (sandbox, policy) in new[] { (claimed, OneDenied), (changed, OneAllowed) })
        {
            Assert.Equal((policy, policy), (node.Network.Policies[sandbox.Id], node.Sandboxes.Get(sandbox.Id).Status.Egress));
        }

        // The overload without ranges removes them, also from the record.
        await node.Sandboxes.Get(claimed.Id).SetEgressAsync(Egress.Internet, default);
        Assert.Equal(Internet, node.Network.Policies[claimed.Id]);
        Assert.Null(Record(node, claimed.Id)["egress_deny"]);
    }

    [Fact]
    public async Task A_successor_with_a_ceiling_of_none_takes_the_ranges_from_rules_and_record()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node, OneAllowed);
        node.Options.Egress = Egress.None;
        await node.RestartAsync(isKilled: true);
        Assert.Equal((None, None), (node.Network.Policies[sandbox.Id], node.Sandboxes.Get(sandbox.Id).Status.Egress));
        Assert.Null(Record(node, sandbox.Id)["egress_allow"]);
    }

    [Fact]
    public async Task The_record_comes_first_unless_the_change_only_gives()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node);
        var recorded = new List<EgressPolicy>();
        node.Network.OnEgress = (id, _) =>
        {
            recorded.Add(Recorded(node, id));
            return Task.CompletedTask;
        };
        EgressPolicy[] changes = [OneDenied, Internet, OneAllowed, OtherAllowed, Internet, None, OneAllowed, Internet];
        foreach (var policy in changes)
        {
            await sandbox.SetEgressAsync(policy, default);
        }

        Assert.Equal([OneDenied, OneDenied, OneAllowed, OtherAllowed, OtherAllowed, None, None, OneAllowed], recorded);
        Assert.Equal((Internet, Internet), (node.Network.Policies[sandbox.Id], Recorded(node, sandbox.Id)));
    }

    [Fact]
    public async Task Rules_that_cannot_be_set_leave_a_record_with_no_more_than_was_asked_for_and_had()
    {
        await using var node = new FakeNode();
        foreach (var (before, asked, left) in new[]
        {
            (Internet, OneDenied, OneDenied), (OneAllowed, OtherAllowed, OtherAllowed), (OneAllowed, Internet, OneAllowed),
        })
        {
            var sandbox = await CreateAsync(node, before);
            node.Network.OnEgress = (_, _) => throw new PandoraException(PandoraError.NotProtected, "the rules could not be set");
            await FailsAsync(() => sandbox.SetEgressAsync(asked, default), PandoraError.NotProtected);
            node.Network.OnEgress = (_, _) => Task.CompletedTask;
            Assert.Equal((left, left), (Recorded(node, sandbox.Id), sandbox.Status.Egress));
            await node.Sandboxes.DeleteAsync(sandbox.Id, complete: true);
        }
    }

    [Fact]
    public async Task A_record_that_cannot_be_written_leaves_the_ranges_that_were_answered()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node, OneAllowed);
        // In the place of the temporary file: root may write anywhere.
        Directory.CreateDirectory(node.RecordOf(sandbox.Id) + ".new");
        foreach (var asked in new[] { None, OtherAllowed, Internet })
        {
            await FailsAsync(() => sandbox.SetEgressAsync(asked, default), PandoraError.HostFull);
            Assert.Equal(
                (OneAllowed, OneAllowed, OneAllowed),
                (node.Network.Policies[sandbox.Id], Recorded(node, sandbox.Id), sandbox.Status.Egress));
        }

        Directory.Delete(node.RecordOf(sandbox.Id) + ".new");
    }

    [Fact]
    public async Task Under_a_ceiling_of_none_nothing_can_be_allowed()
    {
        await using var limited = new FakeNode(new EngineOptions { Egress = Egress.None });
        await using var bound = new FakeNode(projects: name => new Project(name) { Egress = Egress.None });
        foreach (var node in new[] { limited, bound })
        {
            await FailsAsync(() => CreateAsync(node, OneAllowed), PandoraError.EgressForbidden);
            var sandbox = await CreateAsync(node, None with { Deny = [Parse("8.8.8.8")] });
            await FailsAsync(() => sandbox.SetEgressAsync(OneAllowed, default), PandoraError.EgressForbidden);
            Assert.False(sandbox.Status.Egress.HasEgress);
        }
    }

    [Fact]
    public async Task There_are_at_most_256_ranges()
    {
        await using var node = new FakeNode();
        var ranges = Enumerable.Range(0, EgressPolicy.MostRanges).Select(i => Ipv4Network.Of(0x08000000 + ((uint)i << 8), 24)).ToList();
        var sandbox = await CreateAsync(node, None with { Allow = ranges });
        var above = Internet with { Allow = [Parse("1.1.1.1")], Deny = ranges };
        Assert.Equal("egress", (await FailsAsync(() => CreateAsync(node, above), PandoraError.InvalidRequest)).Field);
        Assert.Equal("egress", (await FailsAsync(() => sandbox.SetEgressAsync(above, default), PandoraError.InvalidRequest)).Field);
    }

    [Fact]
    public void Other_ranges_are_another_request()
    {
        EgressPolicy?[] all = [null, Internet, None, OneAllowed, OtherAllowed, OneDenied, None with { Deny = OneAllowed.Allow }];
        Assert.Equal(all.Length, all.Select(p => new SandboxRequest { EgressRules = p }.Hash()).Distinct().Count());
    }

    private static async Task<Sandbox> CreateAsync(FakeNode node, EgressPolicy? policy = null) =>
        (await node.Sandboxes.CreateAsync(new SandboxRequest { EgressRules = policy }, default)).Sandbox;

    private static JsonNode Record(FakeNode node, string id) => JsonNode.Parse(File.ReadAllText(node.RecordOf(id)))!["claim"]!;

    private static EgressPolicy Recorded(FakeNode node, string id)
    {
        var claim = Record(node, id);
        return new EgressPolicy(Enum.Parse<Egress>(claim["egress"]!.GetValue<string>()))
        {
            Allow = Ranges(claim["egress_allow"]),
            Deny = Ranges(claim["egress_deny"]),
        };
    }

    private static List<Ipv4Network> Ranges(JsonNode? ranges) =>
        ranges is null ? [] : [.. ranges.Deserialize<string[]>()!.Select(Parse)];

    private static Ipv4Network Parse(string text) =>
        Ipv4Network.TryParse(text, out var network) ? network : throw new FormatException(text);

    private static async Task<PandoraException> FailsAsync(Func<Task> action, PandoraError error)
    {
        var exception = await Assert.ThrowsAsync<PandoraException>(action);
        Assert.Equal(error, exception.Error);
        return exception;
    }
}
