using Pandora.Engine;
using Pandora.Fakes;
using Pandora.Server.Hosting;
using Pandora.Vmm;

namespace Pandora.Tests.Api;

public sealed class AuthTests
{
    private const string Key = "a-key-of-sixteen-or-more";

    [Theory]
    [InlineData(null, null, 401)]
    [InlineData("Authorization", "Bearer " + Key, 200)]
    [InlineData("X-API-Key", Key, 200)]
    [InlineData("X-API-Key", "another-key-of-sixteen", 401)]
    [InlineData("Authorization", "Basic " + Key, 401)]
    [InlineData("X-API-Key", "", 401)]
    public async Task With_keys_set_a_request_needs_one(string? name, string? value, int status)
    {
        await using var api = await FakeServer.StartAsync(new ServerOptions { ApiKeys = $"some-other-key-0123456789,{Key}" });
        var answer = await api.SendAsync(HttpMethod.Get, "/sandboxes", headers: name is null ? [] : [(name, value!)]);
        Assert.Equal(status, answer.Status);
        Assert.Equal(status, (await api.SendAsync(HttpMethod.Get, "/metrics", headers: name is null ? [] : [(name, value!)])).Status);
    }

    [Theory]
    [InlineData("evil.example", 400)]
    [InlineData("127.0.0.1:8000", 200)]
    [InlineData("localhost:9999", 200)]
    [InlineData("[::1]:8000", 200)]
    public async Task A_rebound_host_name_is_refused(string host, int status)
    {
        await using var api = await FakeServer.StartAsync();
        Assert.Equal(status, (await api.SendAsync(HttpMethod.Get, "/sandboxes", headers: ("Host", host))).Status);
    }

    [Theory]
    [InlineData("http://evil.example", 403)]
    [InlineData("null", 403)]
    [InlineData("http://127.0.0.1:1234", 403)]
    [InlineData("http://127.0.0.1:8000", 201)]
    public async Task A_page_of_another_origin_is_refused(string origin, int status)
    {
        await using var api = await FakeServer.StartAsync();
        Assert.Equal(
            status, (await api.SendAsync(HttpMethod.Post, "/sandboxes", headers: [("Origin", origin), ("Host", "127.0.0.1:8000")])).Status);
        Assert.Equal(status == 201 ? 1 : 0, api.Node.Sandboxes.Count);
    }

    [Theory]
    [InlineData("http://127.0.0.1:8000", "", false, null)]
    [InlineData("http://[::1]:8000", "", false, null)]
    [InlineData("http://localhost:8000", "", false, null)]
    [InlineData("http://0.0.0.0:8000", "", false, "./pandora key create")]
    [InlineData("http://0.0.0.0:8000", Key, false, "PANDORA_ALLOW_EMULATED")]
    [InlineData("http://0.0.0.0:8000", Key, true, null)]
    [InlineData("http://192.0.2.1:8000", "short", true, "16 characters")]
    [InlineData("8000", "", false, "PANDORA_LISTEN")]
    [InlineData("https://127.0.0.1:8000", "", false, "PANDORA_LISTEN")]
    public void Other_addresses_than_loopback_need_a_key_and_consent(string listen, string keys, bool allowEmulated, string? refusal)
    {
        var options = new ServerOptions { Listen = listen, ApiKeys = keys, AllowEmulated = allowEmulated };
        var exception = Record.Exception(() => ListenAddress.Check(options, options.Keys.Count > 0, FakeServer.Tcg));
        if (refusal is null)
        {
            Assert.Null(exception);
        }
        else
        {
            Assert.Contains(refusal, Assert.IsType<StartupException>(exception).Message);
        }
    }

    [Fact]
    public void Hardware_isolation_needs_no_consent() => ListenAddress.Check(
        new ServerOptions { Listen = "http://0.0.0.0:8000", ApiKeys = Key }, needsKey: true, new VmmCapabilities("QEMU", "7.2", "KVM", ""));
}
