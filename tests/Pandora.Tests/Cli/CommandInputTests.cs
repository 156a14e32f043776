using Pandora.Cli;
using Pandora.Contracts;

namespace Pandora.Tests.Cli;

public sealed class CommandInputTests
{
    [Theory]
    [InlineData(new byte[] { })]
    [InlineData(new byte[] { 0xEF, 0xBB, 0xBF, 0x67, 0x00, 0x0D, 0x0A })]
    [InlineData(new byte[] { 0xC3, 0x28, 0xFF, 0x80 })]
    public async Task Input_is_passed_as_it_is(byte[] bytes) =>
        Assert.Equal(bytes, (await CommandInput.ReadAsync(new MemoryStream(bytes), TestContext.Current.CancellationToken)).ToArray());

    [Fact]
    public async Task Input_that_the_api_does_not_take_is_refused_before_anything_is_sent()
    {
        var longest = new byte[Limits.MaxStdinBytes];
        Assert.Equal(
            longest.Length, (await CommandInput.ReadAsync(new MemoryStream(longest), TestContext.Current.CancellationToken)).Length);
        var tooLong = await Assert.ThrowsAsync<UsageException>(() => CommandInput.ReadAsync(
            new MemoryStream(new byte[Limits.MaxStdinBytes + 1]), TestContext.Current.CancellationToken));
        Assert.Contains("10 MiB", tooLong.Message);
    }
}
