using System.Net;
using CsCheck;
using Pandora.Engine;
using Pandora.Engine.Networking;

namespace Pandora.Tests.Networking;

/// <summary>The parts of the network rules: connection limits, special addresses, the text of a slot's rules.</summary>
public sealed class RuleTests
{
    [Fact]
    public void All_guests_together_take_at_most_half_of_the_hosts_connections() =>
        Gen.Select(Gen.Long[4096, 1L << 32], Gen.Int[1, 8192]).Sample((maximum, slots) =>
        {
            var bounds = ConnectionBounds.For(maximum, slots);
            // With more slots than a quarter of the table's entries, each slot still gets one entry.
            var least = maximum / 4 < slots ? slots : 0;
            Assert.InRange(bounds.AtMost(slots) - least, 0, maximum / 2);
            Assert.True(bounds.PerSlot >= 1 && bounds.SlotRate >= 1 && bounds.SlotBurst >= 1);
        });

    [Theory]
    [InlineData(262144, 70, 936, 200, 2000)]
    [InlineData(65536, 70, 234, 128, 512)]
    public void An_ordinary_host_gives_each_guest_what_programs_need(long maximum, int slots, long perSlot, long rate, long burst) =>
        Assert.Equal((perSlot, rate, burst),
            (ConnectionBounds.For(maximum, slots).PerSlot, ConnectionBounds.For(maximum, slots).SlotRate,
            ConnectionBounds.For(maximum, slots).SlotBurst));

    [Theory]
    [InlineData("168.63.129.16")]
    [InlineData("192.0.0.192")]
    [InlineData("192.88.99.1")]
    [InlineData("203.0.113.9")]
    [InlineData("100.100.100.200")]
    [InlineData("169.254.169.254")]
    [InlineData("240.1.2.3")]
    [InlineData("239.255.255.250")]
    public void Special_addresses_are_in_the_list(string address) => Assert.Contains(Ranges, r => r.Contains(IPAddress.Parse(address)));

    [Theory]
    [InlineData("1.1.1.1")]
    [InlineData("168.63.129.17")]
    [InlineData("172.32.0.1")]
    [InlineData("192.0.1.1")]
    public void Ordinary_addresses_are_not_in_the_list(string address) =>
        Assert.DoesNotContain(Ranges, r => r.Contains(IPAddress.Parse(address)));

    [Fact]
    public void An_allowed_range_opens_neither_the_host_nor_other_slots()
    {
        var policy = Policy() with { Allowed = [Parse("10.0.0.0/8")] };
        var text = SlotRules.Text(
            new NetworkSlot(0, "ns", "if", IPAddress.Parse("10.200.0.1"), IPAddress.Parse("10.200.0.2")), policy,
            new EgressPolicy(Egress.Internet));
        var order = new[] { "iifname != @open goto refuse", "ip daddr @own goto refuse", "ip daddr @allowed goto admit",
            "ip daddr @forbidden goto refuse" }.Select(r => text.IndexOf(r, StringComparison.Ordinal)).ToList();
        Assert.DoesNotContain(-1, order);
        Assert.Equal(order.Order(), order);
        Assert.Contains("51.0.0.2/32, 10.200.0.0/16", text);
        Assert.Contains("51.0.0.0/24", text);
    }

    [Fact]
    public void The_set_of_a_closed_slot_is_empty_and_that_of_an_open_slot_holds_the_tap()
    {
        var slot = new NetworkSlot(0, "ns", "if", IPAddress.Parse("10.200.0.1"), IPAddress.Parse("10.200.0.2"));
        Assert.Contains(
            "set open { type ifname; elements = { \"tap0\" } }", SlotRules.Text(slot, Policy(), new EgressPolicy(Egress.Internet)));
        Assert.Contains("set open { type ifname;  }", SlotRules.Text(slot, Policy(), new EgressPolicy(Egress.None)));
    }

    [Fact]
    public void A_destination_that_looks_like_a_slot_is_not_taken_for_one()
    {
        static (IPAddress, IPAddress) Flow(string source, string destination) => (IPAddress.Parse(source), IPAddress.Parse(destination));
        var living = IPAddress.Parse("10.200.0.2");
        var guests = OrphanedSlots.GuestsIn(
            [Flow("10.200.0.2", "10.201.0.6"), Flow("10.201.0.10", "10.200.0.2"), Flow("10.200.0.6", "1.1.1.2")],
            range: null,
            living.Equals);
        Assert.Equal([living, IPAddress.Parse("10.200.0.6")], guests);
    }

    [Fact]
    public void A_guest_whose_egress_is_closed_keeps_no_connection()
    {
        var slot = new NetworkSlot(0, "ns", "if", IPAddress.Parse("10.200.0.1"), IPAddress.Parse("10.200.0.2"));
        var text = SlotRules.Text(slot, Policy(), new EgressPolicy(Egress.None));
        foreach (
            var (chain, gate) in new[]
            {
                ("chain from_guest", "iifname != @open goto refuse"),
                ("chain to_guest", "oifname != @open goto refuse"),
            })
        {
            var start = text.IndexOf(chain + " {", StringComparison.Ordinal);
            Assert.InRange(text.IndexOf(gate, start, StringComparison.Ordinal), start,
                text.IndexOf("ct state established,related accept", start, StringComparison.Ordinal));
        }
    }

    [Fact]
    public void Attributes_are_found_by_type_and_malformed_ones_are_not_found()
    {
        byte[] attributes = [.. Netlink.Attribute(1, [1, 2, 3]), .. Netlink.Nested(2, Netlink.Attribute(7, [9, 9, 9, 9]))];
        Assert.Equal([1, 2, 3], Netlink.Find(attributes, 1).ToArray());
        Assert.Equal([9, 9, 9, 9], Netlink.Find(Netlink.Find(attributes, 2), 7).ToArray());
        Assert.Empty(Netlink.Find(attributes, 3).ToArray());
        Assert.Empty(Netlink.Find([200, 0, 1, 0, 5], 1).ToArray());
        Gen.Byte.Array[0, 64].Sample(bytes => { _ = Netlink.Find(bytes, 1).Length; });
    }

    private static IEnumerable<Ipv4Network> Ranges => SpecialPurpose.Ranges.Select(Parse);

    private static Ipv4Network Parse(string text) =>
        Ipv4Network.TryParse(text, out var network) ? network : throw new FormatException(text);

    internal static NetworkPolicy Policy() => new()
    {
        Range = Parse("10.200.0.0/16"),
        Resolver = IPAddress.Parse("10.1.1.1"),
        Allowed = [],
        Denied = [],
        Host = new HostAddresses([Parse("51.0.0.2")], [Parse("51.0.0.0/24")]),
        Bounds = ConnectionBounds.For(262144, 70),
        Mark = 7,
    };
}
