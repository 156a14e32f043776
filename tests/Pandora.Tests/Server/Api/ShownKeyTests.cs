using System.Text;
using Pandora.Server.Auth;

namespace Pandora.Tests.Api;

public sealed class ShownKeyTests
{
    private const string Key = "0123456789abcdef", Other = "fedcba9876543210";

    [Theory]
    [InlineData("Authorization: Bearer " + Key, true)]
    [InlineData("authorization:bearer   " + Key + "  ", true)]
    [InlineData("x-api-key: " + Key, true)]
    [InlineData("Accept: */*\r\nX-API-Key:" + Key + "\r\nHost: localhost", true)]
    [InlineData("X-API-Key: " + Other, true)]
    [InlineData("Authorization: Bearer " + Key + "x", false)]
    [InlineData("Authorization: " + Key, false)]
    [InlineData("Authorization: Bearer nope\r\nX-API-Key: " + Key, false)]
    [InlineData("X-API-Keys: " + Key, false)]
    [InlineData("X-API-Key:", false)]
    [InlineData("X-API-Key: nope\r\nX-API-Key: " + Key, false)]
    [InlineData("Host: localhost", false)]
    [InlineData("", false)]
    public void A_key_in_a_requests_headers_is_found(string headers, bool isShown)
    {
        var shown = ShownKey.Of(Encoding.ASCII.GetBytes($"GET /sandboxes HTTP/1.1\r\n{headers}"));
        Assert.Equal(isShown, shown is Key or Other);
    }

    [Fact]
    public void A_head_that_is_no_text_shows_no_key() => Assert.Empty(ShownKey.Of([0xff, 0x3a, 0xff]));
}
