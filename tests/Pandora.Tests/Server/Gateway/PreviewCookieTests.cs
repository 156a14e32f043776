using Pandora.Server.Gateway;

namespace Pandora.Tests.Gateway;

/// <summary>The cookies that pass through a preview.</summary>
public sealed class PreviewCookieTests
{
    [Theory]
    [InlineData("a=b", "a=b")]
    [InlineData("a=b; Path=/; HttpOnly", "a=b; Path=/; HttpOnly")]
    [InlineData("a=b; Domain=localhost; Path=/", "a=b; Path=/")]
    [InlineData("a=b;domain=localhost", "a=b")]
    [InlineData("a=b; \tDOMAIN\t = .previews.example ;Secure", "a=b;Secure")]
    [InlineData("a=b; Domain; Domain=x; DoMaIn=y; Max-Age=5", "a=b; Max-Age=5")]
    [InlineData("a=domain=x; Path=/domain=x", "a=domain=x; Path=/domain=x")]
    [InlineData("domain=x; Path=/", "domain=x; Path=/")]
    [InlineData("pandora_preview=x", null)]
    [InlineData(" pandora_preview =x; Path=/", null)]
    [InlineData("__Host-pandora_preview=x; Secure; Path=/", null)]
    [InlineData("__HOST-PANDORA_PREVIEW=x", null)]
    [InlineData("=pandora_preview=x", null)]
    [InlineData(" = __Host-pandora_preview=x", null)]
    [InlineData("pandora_preview", null)]
    [InlineData("a=pandora_preview=x", "a=pandora_preview=x")]
    [InlineData("pandora_preview2=x", "pandora_preview2=x")]
    public void A_guest_sets_cookies_only_for_its_own_host(string set, string? kept) =>
        Assert.Equal(kept is null ? [] : [kept], PreviewCookie.Narrowed(set).ToArray());

    [Theory]
    [InlineData("a=b; c=d", "a=b; c=d")]
    [InlineData("a=b;  c=d", "a=b;  c=d")]
    [InlineData("pandora_preview=t; a=b", "a=b")]
    [InlineData("a=b;pandora_preview=t;c=d;pandora_preview=u", "a=b; c=d")]
    [InlineData("__Host-pandora_preview=t", null)]
    [InlineData("a=b; pandora_preview_not=t", "a=b; pandora_preview_not=t")]
    public void A_guest_does_not_see_ours(string sent, string? kept) => Assert.Equal(kept, (string?)PreviewCookie.WithoutOurs(sent));

    [Fact]
    public void Each_cookie_of_the_hosts_own_name_is_looked_at()
    {
        var (local, domain) = (new PreviewHost(1, "a", IsOfDomain: false, ""), new PreviewHost(1, "a", IsOfDomain: true, ""));
        string[] sent = ["pandora_preview=one; __Host-pandora_preview=two", "x=y; pandora_preview=three=="];
        Assert.Equal(["one", "three=="], PreviewCookie.TokensOf(sent, local));
        // A sibling's page could set the name without the prefix.
        Assert.Equal(["two"], PreviewCookie.TokensOf(sent, domain));
    }

    [Fact]
    public void Ours_is_for_its_host_alone()
    {
        var link = new PreviewLink("T", DateTimeOffset.UnixEpoch.AddSeconds(90), Key: null);
        Assert.Equal(
            "pandora_preview=T; Path=/; HttpOnly; SameSite=Lax; Max-Age=90",
            PreviewCookie.Of(link, new PreviewHost(1, "a", IsOfDomain: false, ""), DateTimeOffset.UnixEpoch));
        Assert.Equal(
            "__Host-pandora_preview=T; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=60",
            PreviewCookie.Of(link, new PreviewHost(1, "a", IsOfDomain: true, ""), DateTimeOffset.UnixEpoch.AddSeconds(30.5)));
    }
}
