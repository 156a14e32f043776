using Microsoft.AspNetCore.Http;
using Pandora.Engine;
using Pandora.Server.Api.Files;

namespace Pandora.Tests.Api.Files;

public sealed class FileParametersTests
{
    [Theory]
    [InlineData("?path=/tmp/a", "2F746D702F61")]
    [InlineData("?user=root&path=%2Ftmp%2fa&x=1", "2F746D702F61")]
    [InlineData("?path=%FF%00%2B+", "FF002B20")]
    [InlineData("?p%61th=a=b", "613D62")]
    [InlineData("?path=", "")]
    [InlineData("?path", "")]
    [InlineData("?path=%C3%A4", "C3A4")]
    public void A_path_is_bytes(string query, string hexadecimal) =>
        Assert.Equal(hexadecimal, Convert.ToHexString(FileParameters.PathOf(RequestOf(query))));

    [Theory]
    [InlineData("")]
    [InlineData("?")]
    [InlineData("?Path=a")]
    [InlineData("?path=a&path=b")]
    [InlineData("?path=%")]
    [InlineData("?path=%1")]
    [InlineData("?path=a%zz")]
    public void A_path_that_cannot_be_read_is_named(string query) =>
        Assert.Equal("path", Assert.Throws<PandoraException>(() => FileParameters.PathOf(RequestOf(query))).Field);

    [Theory]
    [InlineData("644", 0b110100100)]
    [InlineData("0644", 0b110100100)]
    [InlineData("7777", 0xFFF)]
    [InlineData("07777", 0xFFF)]
    [InlineData("0", 0)]
    [InlineData(null, null)]
    public void A_mode_is_octal(string? text, int? mode) => Assert.Equal(mode, FileParameters.ModeOf(text));

    [Theory]
    [InlineData("")]
    [InlineData("8")]
    [InlineData("17777")]
    [InlineData("0x1")]
    [InlineData("-1")]
    [InlineData("u+x")]
    public void Another_mode_is_refused(string text) =>
        Assert.Equal("mode", Assert.Throws<PandoraException>(() => FileParameters.ModeOf(text)).Field);

    [Theory]
    [InlineData("0", 0L)]
    [InlineData("1767225600.5", 1_767_225_600_500_000_000)]
    [InlineData("1.000000001", 1_000_000_001L)]
    [InlineData("-1.5", -1_500_000_000L)]
    [InlineData(null, null)]
    public void A_time_is_seconds(string? text, long? nanoseconds) => Assert.Equal(nanoseconds, FileParameters.ModifiedAtOf(text));

    [Theory]
    [InlineData("")]
    [InlineData("1e9")]
    [InlineData("1.0000000001")]
    [InlineData("9999999999")]
    [InlineData("now")]
    public void Another_time_is_refused(string text) =>
        Assert.Equal("modified_at", Assert.Throws<PandoraException>(() => FileParameters.ModifiedAtOf(text)).Field);

    private static HttpRequest RequestOf(string query) =>
        new DefaultHttpContext { Request = { QueryString = new QueryString(query) } }.Request;
}
