using System.Net;
using System.Text;
using System.Text.Json;
using Pandora.Fakes;
using Pandora.Server.Hosting;

namespace Pandora.Tests.Api;

/// <summary>
/// Content types, methods and host names. The answer to each wrong one is a problem with a code, and never a 500.
/// </summary>
public sealed class ContentTypeTests
{
    private static readonly string[] Taken =
    [
        "application/json", "application/json; charset=utf-8", "application/json; charset=\"utf-8\"", "application/json;charset=UTF-8",
        "application/json; charset=utf8", "application/json; charset=\"utf8\"", "application/json; charset=UTF8", "Application/JSON",
        "application/json; charset=us-ascii", "application/json; charset=iso-8859-1", "application/json; odata=verbose",
    ];

    private static readonly string[] Refused =
    [
        "application/json; charset=", "application/json; charset=\"\"", "application/json; charset=nope",
        "application/json; charset=\"no such\"",
        "application/json; charset=utf-7", "application/json; charset=utf-8; charset=utf-8",
        "application/json; charset=utf-8; charset=nope",
        "application/json; charset=utf-8, text/plain", "application/json; charset", "application/json; ;",
        "application/json; charset=utf-8\"",
        "text/plain", "text/json; charset=nope", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml",
        "json", "/", ";", "*/*", "application/*",
    ];

    // Every route that reads a body, with a valid body.
    private static readonly (string Path, string Body, int Status)[] Routes =
        [("", """{"idle_timeout": 60}""", 201), ("/{id}/exec", """{"code": "exit 0"}""", 200)];

    [Fact]
    public async Task A_content_type_that_is_no_media_type_is_reported_as_that()
    {
        await using var api = await FakeServer.StartAsync();
        using var request = new HttpRequestMessage(HttpMethod.Post, "/sandboxes") { Content = new ByteArrayContent("{}"u8.ToArray()) };
        request.Content.Headers.TryAddWithoutValidation("Content-Type", "application/json; charset=utf-8, text/plain");
        var response = await api.Http.SendAsync(request, TestContext.Current.CancellationToken);
        var problem = JsonDocument.Parse(await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken)).RootElement;
        Assert.StartsWith("the Content-Type is not a media type: send JSON", problem.GetProperty("detail").GetString());
    }

    [Fact]
    public async Task Every_route_accepts_json_in_a_known_charset()
    {
        await using var api = await FakeServer.StartAsync(options: new() { PoolSize = 2, MaxSandboxes = 50 });
        var id = await api.CreateAsync();
        foreach (var (path, body, expected) in Routes)
        {
            foreach (var type in Taken)
            {
                var (status, answer) = await SendAsync(
                    api, HttpMethod.Post, $"/sandboxes{path.Replace("{id}", id)}", type, Encoding.ASCII.GetBytes(body));
                Assert.True(status == expected, $"{path} with {type}: {status} {answer}");
            }
        }
    }

    [Fact]
    public async Task Every_route_with_a_body_answers_415_to_other_content_types()
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        foreach (var (path, body, _) in Routes)
        {
            foreach (var type in Refused)
            {
                var (status, answer) = await SendAsync(
                    api, HttpMethod.Post, $"/sandboxes{path.Replace("{id}", id)}", type, Encoding.ASCII.GetBytes(body));
                Assert.True(status == 415, $"{path} with {type}: {status} {answer}");
                Assert.Equal("invalid_request", answer.GetProperty("code").GetString());
                Assert.Contains("application/json", answer.GetProperty("detail").GetString());
            }
        }

        Assert.Empty(api.Node.GuestOf(id).Commands);
    }

    [Fact]
    public async Task No_charset_that_dotnet_knows_causes_a_500()
    {
        await using var api = await FakeServer.StartAsync(options: new() { PoolSize = 2, MaxSandboxes = 50 });
        var id = await api.CreateAsync();
        foreach (var charset in Encoding.GetEncodings().Select(e => e.Name).Append("utf-7"))
        {
            foreach (var (path, body, expected) in Routes)
            {
                var encoding = charset == "utf-7" ? Encoding.UTF8 : Encoding.GetEncoding(charset);
                // Bytes in the named charset, in another one, and in none.
                foreach (var bytes in new[] { encoding.GetBytes(body), Encoding.UTF8.GetBytes(body), [0xFF, 0xFE, 0x80] })
                {
                    var (status, answer) = await SendAsync(
                        api, HttpMethod.Post, $"/sandboxes{path.Replace("{id}", id)}", $"application/json; charset={charset}", bytes);
                    Assert.True(status is 200 or 201 or 400 or 415, $"{path} with {charset}: {status} {answer}");
                }
            }

            foreach (var sandbox in api.Node.Sandboxes.List().Where(s => s.Id != id))
            {
                await api.Node.Sandboxes.DeleteAsync(sandbox.Id, complete: true);
            }
        }
    }

    [Fact]
    public async Task A_route_without_a_body_ignores_the_content_type()
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        foreach (var type in Taken.Concat(Refused))
        {
            var (status, answer) = await SendAsync(api, HttpMethod.Post, $"/sandboxes/{id}/keepalive", type, "x"u8.ToArray());
            Assert.True(status == 200, $"{type}: {status} {answer}");
        }
    }

    [Fact]
    public async Task Head_is_get_without_a_body_on_every_route_that_has_it()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var id = await api.CreateAsync();
        await FakeNode.UntilAsync(() => api.Node.Pool.WarmCount == 2);
        foreach (
            var path in new[]
            {
                "/health",
                "/ready",
                "/sandboxes",
                $"/sandboxes/{id}",
                "/sandboxes/nope",
                "/sandboxes?metadata=x",
                "/metrics",
                "/openapi/v1.json",
                "/docs/",
                "/nope",
            })
        {
            using var get = await api.Http.GetAsync(new Uri(path, UriKind.Relative));
            using var request = new HttpRequestMessage(HttpMethod.Head, path);
            using var head = await api.Http.SendAsync(request);
            Assert.Equal(get.StatusCode, head.StatusCode);
            Assert.Equal(get.Content.Headers.ContentType, head.Content.Headers.ContentType);
            Assert.Empty(await head.Content.ReadAsByteArrayAsync());
            // The next answer on the connection is intact, so no bytes of a body came after the headers.
            using var again = await api.Http.GetAsync(new Uri("/health", UriKind.Relative));
            Assert.Equal(HttpStatusCode.OK, again.StatusCode);
        }
    }

    [Fact]
    public async Task Every_other_method_is_a_405_that_lists_the_allowed_methods()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var id = await api.CreateAsync();
        string[] methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];
        foreach (var (path, has) in new (string, string[])[]
        {
            ("/health", ["GET", "HEAD"]), ("/ready", ["GET", "HEAD"]), ("/sandboxes", ["GET", "HEAD", "POST"]),
            ($"/sandboxes/{id}", ["DELETE", "GET", "HEAD"]),
            ($"/sandboxes/{id}/exec", ["POST"]), ($"/sandboxes/{id}/keepalive", ["POST"]),
        })
        {
            foreach (var method in methods.Except(has))
            {
                var (status, body, response) = await api.SendAsync(new HttpMethod(method), path);
                Assert.True(status == 405, $"{method} {path}: {status}");
                Assert.Equal(has, response.Content.Headers.Allow.Order());
                if (method != "HEAD")
                {
                    Assert.Equal("method_not_allowed", body.GetProperty("code").GetString());
                }
            }
        }

        Assert.Equal(1, api.Node.Sandboxes.Count);
    }

    [Theory]
    [InlineData("evil.example")]
    [InlineData("127.0.0.1.evil.example:8000")]
    [InlineData("[::2]")]
    public async Task The_answer_to_a_wrong_host_lists_the_allowed_hosts(string host)
    {
        await using var api = await FakeServer.StartAsync(new ServerOptions { AllowedHosts = "pandora.example" });
        foreach (var path in new[] { "/health", "/sandboxes", "/nope" })
        {
            var (status, body, response) = await api.SendAsync(HttpMethod.Get, path, headers: ("Host", host));
            Assert.Equal((400, "host_not_allowed"), (status, body.GetProperty("code").GetString()));
            Assert.Equal("application/problem+json", response.Content.Headers.ContentType!.MediaType);
            Assert.Contains("localhost", body.GetProperty("detail").GetString());
            Assert.Contains("pandora.example", body.GetProperty("detail").GetString());
            Assert.Contains("PANDORA_ALLOWED_HOSTS", body.GetProperty("hint").GetString());
        }

        Assert.Equal(200, (await api.SendAsync(HttpMethod.Get, "/health", headers: ("Host", "pandora.example"))).Status);
        // With an allowed host a 400 has another code.
        Assert.Equal(
            "invalid_request", (await api.SendAsync(HttpMethod.Get, "/sandboxes?metadata=x")).Body.GetProperty("code").GetString());
    }

    private static async Task<(int Status, JsonElement Body)> SendAsync(
        FakeServer api, HttpMethod method, string path, string type, byte[] body)
    {
        using var request = new HttpRequestMessage(method, path) { Content = new ByteArrayContent(body) };
        Assert.True(request.Content.Headers.TryAddWithoutValidation("Content-Type", type));
        using var response = await api.Http.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        Assert.EndsWith((int)response.StatusCode < 400 ? "/json" : "/problem+json", response.Content.Headers.ContentType?.MediaType);
        return ((int)response.StatusCode, JsonDocument.Parse(text).RootElement);
    }
}
