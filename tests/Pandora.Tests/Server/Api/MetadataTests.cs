using CsCheck;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.Fakes;

namespace Pandora.Tests.Api;

/// <summary>Sandboxes are found by their metadata, with any keys and values.</summary>
public sealed class MetadataTests
{
    private const string Letters = ":%325Aa&=+ /é";

    [Theory]
    [InlineData("who", "me", "who:me")]
    [InlineData("job", "a:b", "job:a:b")]
    [InlineData("a:b", "c", "a%253Ab:c")]
    [InlineData("a:b", "c", "a%253ab:c")]
    [InlineData(":", ":", "%253A::")]
    [InlineData("50%", "%", "50%2525:%25")]
    [InlineData("50%", "x", "50%25:x")]
    [InlineData("%3A", "x", "%25253A:x")]
    [InlineData("", "x", ":x")]
    [InlineData("é b", "1 + 1&", "%C3%A9%20b:1%20%2B%201%26")]
    public async Task A_pair_is_found_as_the_url_writes_it(string key, string value, string written)
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync(
            System.Text.Json.JsonSerializer.Serialize(
                new CreateSandboxRequest(Metadata: new Dictionary<string, string> { [key] = value }),
                PandoraJson.Default.CreateSandboxRequest));
        await api.CreateAsync("""{"metadata": {"a": "b:c", "b": "a:b"}}""");
        var list = await api.SendAsync(HttpMethod.Get, $"/sandboxes?metadata={written}");
        Assert.Equal(200, list.Status);
        Assert.Equal(id, Assert.Single(list.Body.EnumerateArray()).GetProperty("sandbox_id").GetString());
    }

    [Fact]
    public async Task The_client_finds_any_pair_and_nothing_else()
    {
        await using var api = await FakeServer.StartAsync();
        using var pandora = new PandoraClient(api.Http);
        var text = Gen.OneOf(
            Gen.Int[0, Letters.Length - 1].Select(i => Letters[i]).Array[0, 6].Select(c => new string(c)),
            Gen.String.AlphaNumeric);
        await Gen.Select(text, text, text)
            .SampleAsync(
                async (key, value, other) =>
                {
                    await using var mine = await pandora.CreateAsync(
                        new CreateSandboxOptions { Metadata = new Dictionary<string, string> { [key] = value } });
                    await using var another = await pandora.CreateAsync(
                        new CreateSandboxOptions { Metadata = new Dictionary<string, string> { [other] = $"{value}:{key}" } });
                    var found = await pandora.ListAsync(new Dictionary<string, string> { [key] = value });
                    Assert.Equal(mine.Id, Assert.Single(found).Id);
                },
                iter: 200,
                threads: 1);
    }

    [Fact]
    public async Task Text_that_is_no_pair_is_refused_by_name()
    {
        await using var api = await FakeServer.StartAsync();
        var refused = await api.SendAsync(HttpMethod.Get, "/sandboxes?metadata=a%253Ab");
        Assert.Equal(400, refused.Status);
        Assert.True(refused.Body.GetProperty("errors").TryGetProperty("metadata", out _));
    }
}
