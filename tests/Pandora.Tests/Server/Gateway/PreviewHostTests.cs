using Pandora.Server.Gateway;

namespace Pandora.Tests.Gateway;

/// <summary>Which Host headers name a preview.</summary>
public sealed class PreviewHostTests
{
    private const string Id = "abcde0123456789abcdefghi";

    [Theory]
    [InlineData($"3000-{Id}.localhost", "")]
    [InlineData($"3000-{Id}.localhost:8000", "8000")]
    [InlineData($"3000-{Id}.localhost:80", "")]
    [InlineData($"3000-{Id}.LocalHost:8000", "8000")]
    [InlineData("3000-ABCDE0123456789ABCDEFGHI.LOCALHOST.", "")]
    [InlineData($"3000-{Id}.localhost.:8000", "8000")]
    public void A_name_below_localhost_is_a_preview(string host, string port)
    {
        Assert.Equal(HostKind.Preview, PreviewHost.Parse(host, domain: "", out var preview));
        Assert.Equal(new PreviewHost(3000, Id, IsOfDomain: false, port), preview);
    }

    [Theory]
    [InlineData($"1-{Id}.previews.example")]
    [InlineData($"65535-{Id}.PREVIEWS.example.:443")]
    public void A_name_below_the_domain_is_a_preview(string host)
    {
        Assert.Equal(HostKind.Preview, PreviewHost.Parse(host, "previews.example", out var preview));
        Assert.True(preview is { IsOfDomain: true, UrlPort: "", Scheme: "https", Id: Id });
        Assert.Equal(HostKind.Other, PreviewHost.Parse(host, domain: "", out preview));
        Assert.Null(preview);
    }

    [Theory]
    [InlineData($"0-{Id}.localhost")]
    [InlineData($"03000-{Id}.localhost")]
    [InlineData($"65536-{Id}.localhost")]
    [InlineData($"99999999999-{Id}.localhost")]
    [InlineData("3000-.localhost")]
    [InlineData("3000-a_b.localhost")]
    [InlineData("3000-a-b.localhost")]
    [InlineData($"x.3000-{Id}.localhost")]
    [InlineData($"3000-{Id}.localhost..")]
    [InlineData($"3000-{Id}.localhost:8000:1")]
    [InlineData($"3000-{Id}.localhost:x")]
    [InlineData("previews.example")]
    [InlineData("previews.example.:443")]
    [InlineData("PREVIEWS.example")]
    [InlineData("www.previews.example")]
    [InlineData($"user@3000-{Id}.previews.example")]
    [InlineData($"3000-{Id}.x.previews.example")]
    [InlineData($"+300-{Id}.previews.example")]
    [InlineData($" 300-{Id}.previews.example")]
    [InlineData(".previews.example")]
    public void A_name_among_those_of_previews_that_is_none_is_refused(string host)
    {
        Assert.Equal(HostKind.Refused, PreviewHost.Parse(host, "previews.example", out var preview));
        Assert.Null(preview);
    }

    [Theory]
    [InlineData("")]
    [InlineData(":8000")]
    [InlineData("localhost:8000")]
    [InlineData("localhost.")]
    [InlineData("127.0.0.1:8000")]
    [InlineData("[::1]:8000")]
    [InlineData("pandora.localhost")]
    [InlineData($"3000-{Id}.localhost.example")]
    [InlineData($"3000-{Id}-localhost")]
    [InlineData($"3000-{Id}localhost")]
    [InlineData("notpreviews.example")]
    public void Every_other_name_is_left_to_the_API(string host) =>
        Assert.Equal(HostKind.Other, PreviewHost.Parse(host, "previews.example", out _));

    [Theory]
    [InlineData($"http://3000-{Id}.localhost:8000", true)]
    [InlineData($"http://8080-{Id}.localhost:8000", true)]
    [InlineData($"HTTP://8080-{Id}.LOCALHOST:8000", true)]
    [InlineData($"http://3000-{Id}.localhost", false)]
    [InlineData($"http://3000-{Id}.localhost:9000", false)]
    [InlineData("http://3000-other.localhost:8000", false)]
    [InlineData("http://localhost:8000", false)]
    [InlineData($"http://3000-{Id}.previews.example:8000", false)]
    [InlineData($"ftp://3000-{Id}.localhost:8000", false)]
    [InlineData($"3000-{Id}.localhost:8000", false)]
    [InlineData($"http://evil.example/3000-{Id}.localhost:8000", false)]
    [InlineData($"http://evil.example@3000-{Id}.localhost:8000", false)]
    [InlineData("null", false)]
    public void Only_pages_of_the_same_guest_at_the_same_address_are_its_own(string origin, bool isOwn)
    {
        Assert.Equal(HostKind.Preview, PreviewHost.Parse($"3000-{Id}.localhost:8000", "previews.example", out var preview));
        Assert.Equal(isOwn, preview!.IsSameGuest(origin, "previews.example"));
    }

    [Fact]
    public void Below_the_domain_a_page_that_came_by_HTTP_is_foreign()
    {
        Assert.Equal(HostKind.Preview, PreviewHost.Parse($"3000-{Id}.previews.example", "previews.example", out var preview));
        Assert.True(preview!.IsSameGuest($"https://1-{Id}.previews.example", "previews.example"));
        Assert.False(preview.IsSameGuest($"http://1-{Id}.previews.example", "previews.example"));
    }

    [Theory]
    [InlineData("/a?b=c", "/a?b=c")]
    [InlineData("//evil.example/", "/.//evil.example/")]
    [InlineData("/\\evil.example", "/./\\evil.example")]
    [InlineData("/a\r\nSet-Cookie: x", "/a%0D%0ASet-Cookie:%20x")]
    [InlineData("/", "/")]
    public void A_redirect_leads_to_the_same_host(string target, string location)
    {
        Assert.Equal(location, PreviewTarget.LocationOf(target));
        var origin = new Uri("http://preview.localhost:8000/");
        Assert.Equal(origin.Authority, new Uri(origin, location).Authority);
    }
}
