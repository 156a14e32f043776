using System.Net;
using CsCheck;
using Pandora.Engine;
using Pandora.Engine.Networking;

namespace Pandora.Tests.Networking;

/// <summary>Policies of egress with ranges: which includes which, and the rules that they become.</summary>
public sealed class EgressPolicyTests
{
    private static readonly NetworkSlot Slot = new(0, "ns", "if", IPAddress.Parse("10.200.0.1"), IPAddress.Parse("10.200.0.2"));

    private static Gen<EgressPolicy> Policies
    {
        get
        {
            // Ranges of sixteen addresses, so that they often overlap.
            var range = Gen.Select(Gen.UInt[0, 15], Gen.Int[28, 32]).Select((a, length) => Ipv4Network.Of(0x08080800 + a, length));
            return Gen.Select(Gen.Bool, range.Array[0, 3], range.Array[0, 3]).Select((isOpen, allow, deny) =>
                new EgressPolicy(isOpen ? Egress.Internet : Egress.None) { Allow = allow, Deny = deny });
        }
    }

    [Fact]
    public void A_policy_includes_another_only_if_all_that_the_other_lets_pass_passes() =>
        Gen.Select(Policies, Policies).Sample((one, other) =>
        {
            Assert.True(one.Includes(one with { Allow = [] }) && one.Includes(one));
            if (one.Includes(other))
            {
                // One address beside the ranges stands for all others.
                Assert.All(Enumerable.Range(0, 17), i => Assert.True(!Passes(other, i) || Passes(one, i)));
            }
        });

    [Fact]
    public void Policies_are_compared_by_their_ranges()
    {
        var policy = new EgressPolicy(Egress.None) { Allow = [Parse("8.8.0.0/16")] };
        Assert.Equal(policy, new EgressPolicy(Egress.None) { Allow = [Parse("8.8.0.0/16")] });
        Assert.NotEqual(policy, new EgressPolicy(Egress.None) { Deny = [Parse("8.8.0.0/16")] });
        Assert.NotEqual(policy, new EgressPolicy(Egress.None));
    }

    [Theory]
    [InlineData(Egress.Internet, false, Egress.None, true)]
    [InlineData(Egress.None, true, Egress.None, true)]
    [InlineData(Egress.None, false, Egress.None, false)]
    [InlineData(Egress.Internet, true, Egress.Internet, false)]
    [InlineData(Egress.Internet, true, null, false)]
    public void A_ceiling_of_none_takes_the_allowed_ranges_too(Egress asked, bool allows, Egress? ceiling, bool isLimited)
    {
        var policy = new EgressPolicy(asked) { Allow = allows ? [Parse("8.8.8.8")] : [], Deny = [Parse("9.9.9.9")] };
        Assert.Equal(isLimited ? new EgressPolicy(Egress.None) : policy, policy.Limit(ceiling));
    }

    [Fact]
    public void The_sets_have_the_ranges_without_those_inside_others()
    {
        var policy = new EgressPolicy(Egress.None)
        {
            Allow = [Parse("8.8.8.8"), Parse("8.8.0.0/16"), Parse("8.8.0.0/16"), Parse("9.0.0.0/8")],
            Deny = [Parse("0.0.0.0/0"), Parse("10.0.0.0/8")],
        };
        var text = SlotRules.Text(Slot, RuleTests.Policy(), policy);
        Assert.Contains("set client_allow { type ipv4_addr; flags interval; elements = { 8.8.0.0/16, 9.0.0.0/8 } }", text);
        Assert.Contains("set client_deny { type ipv4_addr; flags interval; elements = { 0.0.0.0/0 } }", text);
        Assert.Contains("set open { type ifname;  }", text);
    }

    [Fact]
    public void A_change_names_only_the_sets_that_change()
    {
        var (internet, none) = (new EgressPolicy(Egress.Internet), new EgressPolicy(Egress.None));
        var (allows, denies) = (none with { Allow = [Parse("8.8.8.8")] }, internet with { Deny = [Parse("9.0.0.0/8")] });
        Assert.Equal("flush set inet slot open\n", SlotRules.EgressText(internet, none));
        Assert.Equal("add element inet slot open { \"tap0\" }\n", SlotRules.EgressText(none, internet));
        Assert.Equal("add element inet slot client_allow { 8.8.8.8/32 }\n", SlotRules.EgressText(none, allows));
        Assert.Equal(
            "flush set inet slot client_allow\nadd element inet slot client_allow { 8.8.0.0/16 }\n",
            SlotRules.EgressText(allows, none with { Allow = [Parse("8.8.0.0/16")] }));
        Assert.Equal("flush set inet slot open\nflush set inet slot client_deny\n", SlotRules.EgressText(denies, none));
    }

    [Fact]
    public void What_all_guests_are_refused_is_refused_after_what_the_client_allows()
    {
        var text = SlotRules.Text(Slot, RuleTests.Policy(), new EgressPolicy(Egress.None) { Allow = [Parse("0.0.0.0/0")] });
        string[] rules =
        [
            "chain from_guest", "ip daddr @client_allow goto wanted", "iifname != @open goto refuse", "th dport 53 goto wanted",
            "ip daddr @client_deny goto refuse", "chain wanted", "ip daddr @own goto refuse", "ip daddr @forbidden goto refuse",
        ];
        var order = rules.Select(r => text.IndexOf(r, StringComparison.Ordinal)).ToList();
        Assert.DoesNotContain(-1, order);
        Assert.Equal(order.Order(), order);
    }

    private static bool Passes(EgressPolicy policy, int offset)
    {
        var address = Ipv4Network.Of(0x08080800 + (uint)offset, 32);
        return policy.Allow.Any(r => r.Contains(address))
            || (policy.Default == Egress.Internet && !policy.Deny.Any(r => r.Contains(address)));
    }

    private static Ipv4Network Parse(string text) =>
        Ipv4Network.TryParse(text, out var network) ? network : throw new FormatException(text);
}
