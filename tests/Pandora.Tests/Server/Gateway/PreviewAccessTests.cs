using System.Net;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Server.Auth;
using Pandora.Server.Gateway;

namespace Pandora.Tests.Gateway;

/// <summary>Who may use a preview: by what a request passes, and when that ends.</summary>
public sealed class PreviewAccessTests
{
    private const int Port = 3000;

    // On a server that needs no key, and on one that does: the status of a request with one credential.
    [Theory]
    [InlineData("none", 200, 401)]
    [InlineData("admin key", 200, 200)]
    [InlineData("admin key as Bearer", 200, 401)]
    [InlineData("key of the project", 200, 200)]
    [InlineData("key of the project as Bearer", 200, 200)]
    [InlineData("key of another project", 200, 404)]
    [InlineData("metrics key", 200, 403)]
    [InlineData("wrong key", 200, 401)]
    [InlineData("link", 200, 200)]
    [InlineData("cookie", 200, 200)]
    [InlineData("link of another port", 200, 401)]
    [InlineData("cookie of another port", 200, 401)]
    [InlineData("cookie of the other name", 200, 401)]
    [InlineData("link and key of another project", 200, 200)]
    [InlineData("cookie and wrong key", 200, 200)]
    [InlineData("public", 200, 200)]
    [InlineData("public and wrong key", 200, 200)]
    [InlineData("public and metrics key", 200, 200)]
    [InlineData("public and admin key as Bearer", 200, 200)]
    public async Task Each_credential_opens_what_it_should(string credential, int open, int closed)
    {
        await AssertOpensAsync(credential, needsKey: false, open);
        await AssertOpensAsync(credential, needsKey: true, closed);
    }

    private static async Task AssertOpensAsync(string credential, bool needsKey, int status)
    {
        await using var world = await PreviewWorld.StartAsync(needsKey);
        await world.EchoAsync(Port);
        var (own, other) = ("", "");
        if (needsKey)
        {
            own = await world.AddKeyAsync("default");
            other = await world.AddKeyAsync("other");
        }

        var link = await world.LinkAsync(Port, needsKey ? own : null);
        var wrong = await world.LinkAsync(Port + 1, needsKey ? own : null);
        if (credential.StartsWith("public", StringComparison.Ordinal))
        {
            await world.Api.Node.Sandboxes.GetFor(world.Id, SandboxOperation.Port)
                .SetPublicAsync(Port, isPublic: true, CancellationToken.None);
        }

        var headers = new List<(string, string)>();
        headers.AddRange(credential switch
        {
            "admin key" => [("X-API-Key", PreviewWorld.Admin)],
            // Without the form of a key that Pandora makes it may be the program's own. It is removed nevertheless.
            "admin key as Bearer" or "public and admin key as Bearer" => [("Authorization", $"Bearer {PreviewWorld.Admin}")],
            "key of the project" => [("X-API-Key", own)],
            "key of the project as Bearer" => [("Authorization", $"Bearer {own}")],
            "key of another project" or "link and key of another project" => [("X-API-Key", other)],
            "metrics key" or "public and metrics key" => [("X-API-Key", PreviewWorld.Metrics)],
            "wrong key" or "cookie and wrong key" or "public and wrong key" => [("Authorization", "Bearer of-the-program-itself")],
            _ => [],
        });
        headers.AddRange(credential switch
        {
            "cookie" or "cookie and wrong key" => [("Cookie", $"pandora_preview={link}")],
            "cookie of another port" => [("Cookie", $"pandora_preview={wrong}")],
            "cookie of the other name" => [("Cookie", $"__Host-pandora_preview={link}")],
            _ => [],
        });
        var query = credential switch
        {
            "link" or "link and key of another project" => $"?pandora_link={link}",
            "link of another port" => $"?pandora_link={wrong}",
            _ => "",
        };
        using var answer = await world.GetAsync(Port, "/x" + query, [.. headers]);
        Assert.Equal((credential, needsKey, status), (credential, needsKey, (int)answer.StatusCode));
        if (answer.IsSuccessStatusCode)
        {
            var echo = await PreviewWorld.EchoOf(answer);
            Assert.Equal("/x", echo.GetProperty("target").GetString());
            var text = echo.GetRawText();
            var secrets = new[] { PreviewWorld.Admin, PreviewWorld.Metrics, own, other, link }.Where(s => s.Length > 0);
            Assert.All(needsKey ? secrets : [link], s => Assert.DoesNotContain(s, text, StringComparison.Ordinal));
            // The program's own credential is not Pandora's to remove.
            Assert.Equal(credential.Contains("wrong key"), text.Contains("Bearer of-the-program-itself", StringComparison.Ordinal));
        }
    }

    [Fact]
    public async Task A_viewer_with_a_link_gets_a_cookie_and_an_address_without_the_token()
    {
        await using var world = await PreviewWorld.StartAsync(needsKey: true);
        await world.EchoAsync(Port);
        var token = await world.LinkAsync(Port, PreviewWorld.Admin);
        var target = world.Api.Http.BaseAddress + $"/a/b%2Fc?x=1&pandora%5Flink={token}&y=%20&pandora_link=old";
        using var answer = await world.GetAsync(Port, target, ("Accept", "text/html,*/*"));
        Assert.Equal(HttpStatusCode.SeeOther, answer.StatusCode);
        Assert.Equal("/.//a/b%2Fc?x=1&y=%20", answer.Headers.GetValues("Location").Single());
        Assert.Equal("no-referrer", answer.Headers.GetValues("Referrer-Policy").Single());
        Assert.True(answer.Headers.CacheControl?.NoStore);
        var cookie = answer.Headers.GetValues("Set-Cookie").Single();
        Assert.Matches("^pandora_preview=[A-Za-z0-9_-]+; Path=/; HttpOnly; SameSite=Lax; Max-Age=360[01]$", cookie);
        // A wrong cookie of the same name before it, as a page of a sibling may set, changes nothing.
        using var next = await world.GetAsync(Port, "/", ("Cookie", $"a=b; pandora_preview=bad; {cookie.Split(';')[0]}"));
        Assert.Equal("a=b", (await PreviewWorld.EchoOf(next)).GetProperty("headers").GetProperty("cookie").GetString());
        // A program gets its answer at once, and the cookie with it.
        using var program = await world.SendAsync(HttpMethod.Post, world.HostOf(Port), $"/?pandora_link={token}");
        Assert.Equal("/", (await PreviewWorld.EchoOf(program)).GetProperty("target").GetString());
        Assert.Single(program.Headers.GetValues("Set-Cookie"), c => c.StartsWith("pandora_preview=", StringComparison.Ordinal));
    }

    [Fact]
    public async Task An_invalid_token_of_a_viewer_with_access_is_removed_without_a_cookie()
    {
        await using var world = await PreviewWorld.StartAsync();
        await world.EchoAsync(Port);
        using var answer = await world.GetAsync(Port, "/a?pandora_link=of-another-preview", ("Accept", "text/html"));
        Assert.Equal((HttpStatusCode.SeeOther, "/a"), (answer.StatusCode, answer.Headers.GetValues("Location").Single()));
        Assert.False(answer.Headers.Contains("Set-Cookie"));
    }

    [Fact]
    public async Task Below_the_domain_the_cookie_has_the_prefix_that_siblings_cannot_set()
    {
        await using var world = await PreviewWorld.StartAsync(needsKey: true, hasDomain: true);
        await world.EchoAsync(Port);
        var made = await world.Api.SendAsync(
            HttpMethod.Post, $"/sandboxes/{world.Id}/ports/{Port}/links", headers: [("X-API-Key", PreviewWorld.Admin)]);
        var url = new Uri(made.Body.GetProperty("url").GetString()!);
        Assert.Equal($"https://{world.DomainHostOf(Port)}/", url.GetLeftPart(UriPartial.Path));
        using var visit = await world.SendAsync(HttpMethod.Get, world.DomainHostOf(Port), url.PathAndQuery);
        var cookie = visit.Headers.GetValues("Set-Cookie").Single();
        Assert.StartsWith("__Host-pandora_preview=", cookie, StringComparison.Ordinal);
        Assert.Contains("; Secure;", cookie, StringComparison.Ordinal);
        Assert.DoesNotContain("domain", cookie, StringComparison.OrdinalIgnoreCase);
        var headers = (await PreviewWorld.EchoOf(visit)).GetProperty("headers");
        Assert.Equal("https", headers.GetProperty("x-forwarded-proto").GetString());
        var value = cookie.Split(';')[0];
        using var next = await world.SendAsync(HttpMethod.Get, world.DomainHostOf(Port), "/", ("Cookie", value));
        Assert.Equal(HttpStatusCode.OK, next.StatusCode);
        // The name without the prefix could come from a sibling.
        using var tossed = await world.SendAsync(
            HttpMethod.Get, world.DomainHostOf(Port), "/", ("Cookie", value["__Host-".Length..]));
        Assert.Equal(ErrorCodes.Unauthorized.Code, await PreviewWorld.CodeOf(tossed));
    }

    [Fact]
    public async Task A_token_opens_one_port_of_one_sandbox_until_it_expires_and_not_when_it_is_changed()
    {
        await using var world = await PreviewWorld.StartAsync(needsKey: true);
        await world.EchoAsync(Port);
        var token = await world.LinkAsync(Port, PreviewWorld.Admin, """{"expires_in": 60}""");
        Assert.Equal(200, await StatusAsync(token));
        for (var i = 0; i < token.Length - 1; i += 7)
        {
            Assert.Equal(401, await StatusAsync(token[..i] + (token[i] == 'A' ? 'B' : 'A') + token[(i + 1)..]));
        }

        string[] forged = ["", "A", "AAAA", token[..^4], token + "AAAA", new string('A', 4096), "%00", "pandora_link"];
        foreach (var wrong in forged)
        {
            Assert.Equal(401, await StatusAsync(wrong));
        }

        // The decoder skips white space, which comes into no header.
        using var split = await world.GetAsync(Port, $"/?pandora_link={token}%0d%0a");
        Assert.Equal(200, (int)split.StatusCode);
        Assert.DoesNotContain("\r", split.Headers.GetValues("Set-Cookie").Single(), StringComparison.Ordinal);
        var second = world.Api.Node.Booted.Select(b => b.Id).First(i => i != world.Id);
        using var other = await world.SendAsync(HttpMethod.Get, world.HostOf(Port, second), $"/?pandora_link={token}");
        Assert.Equal(ErrorCodes.Unauthorized.Code, await PreviewWorld.CodeOf(other));
        world.Api.Node.Time.Advance(TimeSpan.FromSeconds(59));
        Assert.Equal(200, await StatusAsync(token));
        world.Api.Node.Time.Advance(TimeSpan.FromSeconds(2));
        Assert.Equal(401, await StatusAsync(token));
        // A clock that is set back does not bring it back.
        world.Api.Node.Time.Jump(-TimeSpan.FromHours(1));
        Assert.Equal(401, await StatusAsync(token));

        async Task<int> StatusAsync(string shown)
        {
            using var answer = await world.GetAsync(Port, $"/?pandora_link={shown}");
            return (int)answer.StatusCode;
        }
    }

    [Fact]
    public async Task A_link_ends_with_the_key_that_made_it_and_never_outlives_it()
    {
        await using var world = await PreviewWorld.StartAsync(needsKey: true);
        await world.EchoAsync(Port);
        var now = world.Api.Node.Time.GetUtcNow();
        var key = await world.AddKeyAsync("default", expires: now.AddMinutes(5));
        var other = await world.AddKeyAsync("other");
        var made = await world.Api.SendAsync(
            HttpMethod.Post, $"/sandboxes/{world.Id}/ports/{Port}/links", """{"expires_in": 604800}""", headers: [("X-API-Key", key)]);
        Assert.InRange((made.Body.GetProperty("expires_at").GetDateTimeOffset() - now).TotalSeconds, 300, 301);
        Assert.True(made.Response.Headers.CacheControl?.NoStore);
        Assert.Null(made.Response.Headers.Location);
        var query = new Uri(made.Body.GetProperty("url").GetString()!).Query;
        Assert.Equal(HttpStatusCode.OK, (await world.GetAsync(Port, "/" + query)).StatusCode);
        var refused = await world.Api.SendAsync(
            HttpMethod.Post, $"/sandboxes/{world.Id}/ports/{Port}/links", headers: [("X-API-Key", other)]);
        Assert.Equal(404, refused.Status);
        await world.RevokeAsync(key);
        world.Api.Node.Time.Advance(Access.Interval);
        Assert.Equal(HttpStatusCode.Unauthorized, (await world.GetAsync(Port, "/" + query)).StatusCode);
    }

    [Fact]
    public async Task A_link_of_a_server_without_keys_ends_with_the_first_key()
    {
        await using var world = await PreviewWorld.StartAsync();
        await world.EchoAsync(Port);
        var token = await world.LinkAsync(Port);
        await world.AddKeyAsync("default");
        Assert.Equal(HttpStatusCode.Unauthorized, (await world.GetAsync(Port, $"/?pandora_link={token}")).StatusCode);
    }

    [Theory]
    [InlineData("""{"expires_in": 0}""", 400)]
    [InlineData("""{"expires_in": 604801}""", 400)]
    [InlineData("""{"seconds": 1}""", 400)]
    [InlineData("", 201)]
    public async Task A_links_time_is_bounded(string body, int status)
    {
        await using var world = await PreviewWorld.StartAsync();
        var made = await world.Api.SendAsync(
            HttpMethod.Post, $"/sandboxes/{world.Id}/ports/{Port}/links", body.Length > 0 ? body : null);
        Assert.Equal(status, made.Status);
        foreach (var port in new[] { "0", "65536" })
        {
            Assert.Equal(400, (await world.Api.SendAsync(HttpMethod.Post, $"/sandboxes/{world.Id}/ports/{port}/links")).Status);
        }
    }

    [Fact]
    public async Task Wrong_keys_are_counted_as_those_of_the_API()
    {
        await using var world = await PreviewWorld.StartAsync(needsKey: true);
        await world.EchoAsync(Port);
        for (var i = 0; i < GuessBound.Burst; i++)
        {
            using var guess = await world.GetAsync(Port, "/", ("X-API-Key", $"a-wrong-key-of-nobody-{i}"));
            Assert.Equal(ErrorCodes.Unauthorized.Code, await PreviewWorld.CodeOf(guess));
        }

        using var more = await world.GetAsync(Port, "/", ("X-API-Key", "one-more-wrong-key"));
        Assert.Equal(ErrorCodes.TooManyAttempts.Code, await PreviewWorld.CodeOf(more));
        Assert.Equal(429, (await world.Api.SendAsync(HttpMethod.Get, "/sandboxes", headers: [("X-API-Key", "wrong")])).Status);
        Assert.Equal(2, world.Api.Metrics.RefusedGuesses);
        Assert.Equal(GuessBound.Burst + 1, world.Api.Metrics.Count(PreviewResult.Unauthorized));
    }

    [Theory]
    [InlineData("Authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.e30.of-the-program-itself", false)]
    [InlineData("Authorization", "Basic YTpi", false)]
    [InlineData("Authorization", $"Bearer {PreviewWorld.Admin}", false)]
    [InlineData("X-API-Key", "of-the-program", false)]
    [InlineData("X-API-Key", "as-long-as-a-key", true)]
    [InlineData("X-API-Key", "e2b_0123", true)]
    [InlineData("Authorization", "Bearer pnd_0123", true)]
    public async Task Only_what_has_the_form_of_a_key_counts_as_a_wrong_one(string name, string value, bool counts)
    {
        await using var world = await PreviewWorld.StartAsync(needsKey: true);
        for (var i = 0; i <= GuessBound.Burst; i++)
        {
            using var answer = await world.GetAsync(Port, "/", (name, value));
            var isTooMany = counts && i == GuessBound.Burst;
            Assert.Equal(
                (isTooMany ? ErrorCodes.TooManyAttempts : ErrorCodes.Unauthorized).Code, await PreviewWorld.CodeOf(answer));
        }
    }

    [Theory]
    [InlineData("X-API-Key: a-wrong-key-of-nobody\r\nX-API-Key: KEY\r\n")]
    [InlineData("X-API-Key: KEY\r\nx-api-key: a-wrong-key-of-nobody\r\n")]
    [InlineData("Authorization: Bearer KEY\r\nAuthorization: Basic YTpi\r\n")]
    [InlineData("Authorization: Bearer KEY\r\nAuthorization: Bearer KEY\r\n")]
    public async Task Of_several_values_of_a_header_none_is_a_key_and_no_key_among_them_reaches_the_guest(string headers)
    {
        await using var world = await PreviewWorld.StartAsync(needsKey: true);
        await world.EchoAsync(Port);
        var key = await world.AddKeyAsync("default");
        for (var i = 0; i <= GuessBound.Burst; i++)
        {
            var refused = await SendAsync();
            Assert.StartsWith("HTTP/1.1 401 ", refused, StringComparison.Ordinal);
        }

        await world.Api.Node.Sandboxes.GetFor(world.Id, SandboxOperation.Port)
            .SetPublicAsync(Port, isPublic: true, CancellationToken.None);
        var passed = await SendAsync();
        Assert.StartsWith("HTTP/1.1 200 ", passed, StringComparison.Ordinal);
        Assert.DoesNotContain(key, passed, StringComparison.Ordinal);

        Task<string> SendAsync() => world.SendRawAsync(
            $"GET / HTTP/1.1\r\nHost: {world.HostOf(Port)}\r\nConnection: close\r\n{headers}\r\n"
                .Replace("KEY", key, StringComparison.Ordinal));
    }

    [Fact]
    public async Task The_secret_of_links_is_made_once_and_is_the_owners()
    {
        await using var world = await PreviewWorld.StartAsync();
        Assert.Equal(32, (await File.ReadAllBytesAsync(world.Store.PreviewKeyPath)).Length);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(world.Store.PreviewKeyPath));
        using var access = new Access(
            world.Store, new Pandora.Server.Hosting.ServerOptions(), world.Api.Node.Time,
            Microsoft.Extensions.Logging.Abstractions.NullLogger<Access>.Instance);
        var before = new PreviewLinks(world.Store, access, world.Api.Node.Time);
        var after = new PreviewLinks(world.Store, access, world.Api.Node.Time);
        var host = new PreviewHost(1, "a", IsOfDomain: false, "");
        var token = await world.LinkAsync(Port);
        // A server that has not started accepts nothing.
        Assert.Null(before.Find(token, new PreviewHost(Port, world.Id, IsOfDomain: false, "")));
        await after.StartAsync(CancellationToken.None);
        Assert.NotNull(after.Find(token, new PreviewHost(Port, world.Id, IsOfDomain: false, "")));
        Assert.Null(after.Find(token, host));
    }
}
