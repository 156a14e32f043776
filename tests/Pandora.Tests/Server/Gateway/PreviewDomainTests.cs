using Pandora.Engine;
using Pandora.Server.Gateway;
using Pandora.Server.Hosting;

namespace Pandora.Tests.Gateway;

/// <summary>The checks of PANDORA_PREVIEW_DOMAIN at the start.</summary>
public sealed class PreviewDomainTests
{
    [Theory]
    [InlineData("", "")]
    [InlineData("pandora-previews.example", "")]
    [InlineData("pandora-previews.example:8443", "pandora.example,api.example.com")]
    [InlineData("x.previews.dev", "pandora.example")]
    [InlineData("previews.co.uk", "pandora.co.uk")]
    [InlineData("a.previews.co.uk", "*.pandora.co.uk:443")]
    public void A_domain_of_its_own_is_accepted(string domain, string hosts) => Check(domain, hosts);

    [Theory]
    [InlineData("localhost", "", "below localhost")]
    [InlineData("x.localhost", "", "below localhost")]
    [InlineData("10.1.2.3", "", "is an address")]
    [InlineData("[::1]", "", "port")]
    [InlineData("previews", "", "too few labels")]
    [InlineData("com", "", "too few labels")]
    [InlineData("co.uk", "", "too few labels")]
    [InlineData("Previews.example", "", "lower case")]
    [InlineData("previews.example.", "", "not a DNS name")]
    [InlineData("https://previews.example", "", "port")]
    [InlineData("previews.example/x", "", "not a DNS name")]
    [InlineData("-previews.example", "", "not a DNS name")]
    [InlineData("previews.example:0", "", "port")]
    [InlineData("previews.example:65536", "", "port")]
    [InlineData("previews.example:", "", "port")]
    [InlineData("previews.example:1:2", "", "port")]
    [InlineData("*.previews.example", "", "not a DNS name")]
    [InlineData("pandora.example", "pandora.example", "shares the domain pandora.example")]
    [InlineData("pandora.example", "PANDORA.example.", "shares the domain pandora.example")]
    [InlineData("previews.pandora.example", "pandora.example", "shares the domain pandora.example")]
    [InlineData("pandora.example", "api.pandora.example:8000", "shares the domain pandora.example")]
    [InlineData("previews.pandora.example", "api.pandora.example", "shares the domain pandora.example")]
    [InlineData("previews.pandora.example", "*.pandora.example", "shares the domain pandora.example")]
    [InlineData("a.pandora.co.uk", "b.pandora.co.uk", "shares the domain pandora.co.uk")]
    [InlineData("previews.example", "pandora.example.com,*", "names are not known")]
    public void Any_other_is_refused_with_a_sentence(string domain, string hosts, string sentence)
    {
        var refused = Assert.Throws<StartupException>(() => Check(domain, hosts));
        Assert.StartsWith($"PANDORA_PREVIEW_DOMAIN={domain}", refused.Message, StringComparison.Ordinal);
        Assert.Contains(sentence, refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_name_that_the_server_listens_on_counts() => Assert.Contains(
        "shares the domain", Assert.Throws<StartupException>(() => Check("a.pandora.example", "", "http://b.pandora.example:80")).Message,
        StringComparison.Ordinal);

    [Fact]
    public void A_server_on_every_address_must_know_its_names()
    {
        const string Everywhere = "http://0.0.0.0:8000";
        Assert.Contains(
            "PANDORA_ALLOWED_HOSTS", Assert.Throws<StartupException>(() => Check("previews.example", "", Everywhere)).Message,
            StringComparison.Ordinal);
        Check("previews.example", "pandora.dev", Everywhere);
    }

    private static void Check(string domain, string hosts, string listen = "http://127.0.0.1:8000")
    {
        var options = new ServerOptions { PreviewDomain = domain, AllowedHosts = hosts, Listen = listen };
        PreviewDomain.Check(options, ListenAddress.AllowedHosts(options, new Uri(listen)));
    }
}
