using System.Net;
using Pandora.Engine;
using Pandora.Engine.Networking;

namespace Pandora.Tests.Networking;

public sealed class NetworkTests
{
    [Theory]
    [InlineData("10.200.0.0/16", "10.200.0.0/16")]
    [InlineData("10.200.3.4/16", "10.200.0.0/16")]
    [InlineData("192.0.2.1", "192.0.2.1/32")]
    [InlineData("0.0.0.0/0", "0.0.0.0/0")]
    public void Ranges_are_read(string text, string expected)
    {
        Assert.True(Ipv4Network.TryParse(text, out var network));
        Assert.Equal(expected, network.ToString());
    }

    [Theory]
    [InlineData("10.0.0.0/33")]
    [InlineData("10.0.0.0/-1")]
    [InlineData("10.0.0/8/8")]
    [InlineData("fd00::/8")]
    [InlineData("home")]
    [InlineData("")]
    public void Text_that_is_no_range_is_refused(string text) => Assert.False(Ipv4Network.TryParse(text, out _));

    [Theory]
    [InlineData("10.200.0.0/16", "10.200.9.0/24", true)]
    [InlineData("10.200.0.0/16", "10.201.0.0/16", false)]
    [InlineData("10.0.0.0/8", "10.200.0.0/16", true)]
    [InlineData("0.0.0.0/0", "10.200.0.0/16", true)]
    public void Overlap_is_symmetric(string a, string b, bool overlaps)
    {
        Ipv4Network.TryParse(a, out var first);
        Ipv4Network.TryParse(b, out var second);
        Assert.Equal((overlaps, overlaps), (first.Overlaps(second), second.Overlaps(first)));
    }

    [Fact]
    public void Routes_are_read_in_the_kernels_format()
    {
        // A default route by 192.0.2.1 on eth0, and 10.77.0.0/24 on lan0.
        const string Table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
            + "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
            + "lan0\t00004D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        var routes = HostRoutes.Parse(Table);
        Assert.Equal([("eth0", "0.0.0.0/0"), ("lan0", "10.77.0.0/24")], routes.Select(r => (r.Interface, r.Destination.ToString())));
        Assert.Equal("lan0", HostRoutes.InterfaceTo(routes, IPAddress.Parse("10.77.0.9")));
        Assert.Equal("eth0", HostRoutes.InterfaceTo(routes, IPAddress.Parse("203.0.113.1")));
    }

    [Fact]
    public void Behind_systemds_stub_the_real_resolvers_are_used()
    {
        var stub = Path.GetTempFileName();
        var real = Path.GetTempFileName();
        try
        {
            File.WriteAllText(stub, "# a comment\nnameserver 127.0.0.53\noptions edns0\n");
            File.WriteAllText(real, "nameserver 2001:db8::1\nnameserver 192.0.2.53\n");
            Assert.Equal(["192.0.2.53"], HostRoutes.Resolvers(stub, real).Select(r => r.ToString()));
            Assert.Equal(["127.0.0.53"], HostRoutes.Resolvers(stub, "/no/such/file").Select(r => r.ToString()));
        }
        finally
        {
            File.Delete(stub);
            File.Delete(real);
        }
    }
}
