using Pandora.Server.Api.Files;

namespace Pandora.Tests.Api.Files;

public sealed class FileRangeTests
{
    [Theory]
    [InlineData("bytes=0-0", 0, 1)]
    [InlineData("bytes=0-9", 0, 10)]
    [InlineData("bytes=3-5", 3, 3)]
    [InlineData("bytes=9-9", 9, 1)]
    [InlineData("bytes=9-", 9, 1)]
    [InlineData("bytes=0-", 0, 10)]
    [InlineData("bytes=5-100", 5, 5)]
    [InlineData("bytes=0-9223372036854775807", 0, 10)]
    [InlineData("bytes=1-99999999999999999999999", 1, 9)]
    [InlineData("bytes=-1", 9, 1)]
    [InlineData("bytes=-10", 0, 10)]
    [InlineData("bytes=-11", 0, 10)]
    [InlineData("bytes=-99999999999999999999999", 0, 10)]
    [InlineData("BYTES = 3-5", 3, 3)]
    public void A_range_is_cut_to_the_file(string header, long first, long length) =>
        Assert.Equal((first, length), FileRange.Of(header)!.Value.In(10));

    [Theory]
    [InlineData("bytes=10-")]
    [InlineData("bytes=10-20")]
    [InlineData("bytes=99999999999999999999999-")]
    [InlineData("bytes=-0")]
    public void A_range_without_a_byte_of_the_file_is_none(string header) => Assert.Null(FileRange.Of(header)!.Value.In(10));

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("bytes=")]
    [InlineData("bytes=-")]
    [InlineData("bytes=5-3")]
    [InlineData("bytes=0-1,4-5")]
    [InlineData("bytes=a-b")]
    [InlineData("bytes=--5")]
    [InlineData("lines=0-1")]
    public void Another_header_means_the_whole_file(string? header) => Assert.Null(FileRange.Of(header));
}
