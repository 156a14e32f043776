using System.Text;
using Pandora.Cli;
using Pandora.Contracts;

namespace Pandora.Tests.Cli;

public sealed class CommandInputTests
{
    [Fact]
    public async Task Input_is_passed_as_it_is()
    {
        var bytes = Encoding.UTF8.GetBytes("\ufeffgrün\0\r\n");
        Assert.Equal("\ufeffgrün\0\r\n", await CommandInput.ReadAsync(new MemoryStream(bytes), TestContext.Current.CancellationToken));
        var longest = new string('x', Limits.MaxStdinBytes);
        Assert.Equal(longest,
            await CommandInput.ReadAsync(new MemoryStream(Encoding.UTF8.GetBytes(longest)), TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task What_the_api_does_not_take_is_told_before_anything_is_sent()
    {
        var tooLong = await Assert.ThrowsAsync<UsageException>(() => CommandInput.ReadAsync(
            new MemoryStream(new byte[Limits.MaxStdinBytes + 1]), TestContext.Current.CancellationToken));
        Assert.Contains("1 MiB", tooLong.Message);
        var binary = await Assert.ThrowsAsync<UsageException>(() => CommandInput.ReadAsync(
            new MemoryStream([0xC3, 0x28]), TestContext.Current.CancellationToken));
        Assert.Contains("base64", binary.Message);
    }
}
