using System.Text.Json;
using Pandora.Engine;
using Pandora.Fakes;

namespace Pandora.Tests.Api;

public sealed class SandboxesApiTests
{
    [Fact]
    public async Task The_original_contract_holds()
    {
        await using var api = await FakeServer.StartAsync();
        var created = await api.SendAsync(HttpMethod.Post, "/sandboxes", """{"idle_timeout": 120.0}""");
        Assert.Equal(201, created.Status);
        Assert.Equal(120.0, created.Body.GetProperty("idle_timeout").GetDouble());
        Assert.Equal(JsonValueKind.Number, created.Body.GetProperty("slot_id").ValueKind);
        Assert.Matches(@"^10\.200\.0\.\d+$", created.Body.GetProperty("guest_ip").GetString());
        Assert.True(created.Body.GetProperty("acquire_ms").GetDouble() >= 0);
        Assert.Contains(created.Body.GetProperty("warm").ValueKind, new[] { JsonValueKind.True, JsonValueKind.False });
        var id = created.Body.GetProperty("sandbox_id").GetString();

        var exec = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "exit 3", "timeout": 30.0}""");
        Assert.Equal(200, exec.Status);
        Assert.Equal(["sandbox_id", "exit_code", "stdout", "stderr", "exec_ms"], exec.Body.EnumerateObject().Select(p => p.Name));
        Assert.Equal(3, exec.Body.GetProperty("exit_code").GetInt32());

        var list = await api.SendAsync(HttpMethod.Get, "/sandboxes");
        var listed = Assert.Single(list.Body.EnumerateArray());
        foreach (var field in new[] { "sandbox_id", "slot_id", "guest_ip", "age_seconds", "idle_seconds", "idle_timeout", "exec_count" })
        {
            Assert.True(listed.TryGetProperty(field, out _), field);
        }

        var health = await api.SendAsync(HttpMethod.Get, "/health");
        Assert.Equal("ok", health.Body.GetProperty("status").GetString());
        Assert.Equal(1, health.Body.GetProperty("active_sandboxes").GetInt32());
        Assert.Contains("not a security boundary", health.Body.GetProperty("isolation").GetString());

        Assert.Equal(204, (await api.SendAsync(HttpMethod.Delete, $"/sandboxes/{id}")).Status);
        Assert.Equal(404, (await api.SendAsync(HttpMethod.Delete, $"/sandboxes/{id}")).Status);
        Assert.Equal(404, (await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "exit 0"}""")).Status);
    }

    [Fact]
    public async Task A_create_needs_no_body()
    {
        await using var api = await FakeServer.StartAsync();
        var created = await api.SendAsync(HttpMethod.Post, "/sandboxes");
        Assert.Equal(201, created.Status);
        Assert.Equal(60, created.Body.GetProperty("idle_timeout").GetDouble());
        Assert.EndsWith(created.Body.GetProperty("sandbox_id").GetString(), created.Response.Headers.Location!.ToString());
    }

    [Fact]
    public async Task A_create_may_ask_for_a_size_and_the_sandbox_shows_it()
    {
        await using var api = await FakeServer.StartAsync();
        var created = await api.SendAsync(HttpMethod.Post, "/sandboxes", """{"memory_mib": 512, "vcpus": 2, "disk_mib": 4096}""");
        Assert.Equal((201, "boot"), (created.Status, created.Body.GetProperty("start").GetString()));
        Assert.False(created.Body.GetProperty("warm").GetBoolean());
        var id = created.Body.GetProperty("sandbox_id").GetString();
        var shown = (await api.SendAsync(HttpMethod.Get, $"/sandboxes/{id}")).Body;
        Assert.Equal((512, 2, 4096), (shown.GetProperty("memory_mib").GetInt32(), shown.GetProperty("vcpus").GetInt32(),
            shown.GetProperty("disk_mib").GetInt32()));
        Assert.Equal("default", shown.GetProperty("template").GetString());
        var plain = await api.CreateAsync();
        shown = (await api.SendAsync(HttpMethod.Get, $"/sandboxes/{plain}")).Body;
        Assert.Equal((256, 1, 2048), (shown.GetProperty("memory_mib").GetInt32(), shown.GetProperty("vcpus").GetInt32(),
            shown.GetProperty("disk_mib").GetInt32()));
    }

    [Theory]
    [InlineData("memory_mib", "127", "must be between 128 and 65536")]
    [InlineData("memory_mib", "65537", "must be between 128 and 65536")]
    [InlineData("memory_mib", "\"512\"", "")]
    [InlineData("memory_mib", "512.5", "")]
    [InlineData("memory_mib", "99999999999", "")]
    [InlineData("vcpus", "0", "must be between 1 and 32")]
    [InlineData("vcpus", "33", "must be between 1 and 32")]
    [InlineData("disk_mib", "63", "must be between 64 and 1048576")]
    [InlineData("disk_mib", "1048577", "must be between 64 and 1048576")]
    [InlineData("disk_mib", "2047", "must be from 2048 to 1048576 with template 'default', and is 2047")]
    public async Task A_size_out_of_bounds_is_refused_by_field(string field, string value, string words)
    {
        await using var api = await FakeServer.StartAsync();
        var refused = await api.SendAsync(HttpMethod.Post, "/sandboxes", $$"""{"{{field}}": {{value}}}""");
        Assert.Equal((400, "invalid_request"), (refused.Status, refused.Body.GetProperty("code").GetString()));
        var error = refused.Body.GetProperty("errors").GetProperty(field);
        Assert.Contains(words, error.ToString());
        Assert.Equal(0, api.Node.Sandboxes.Count);
    }

    [Fact]
    public async Task A_list_can_be_narrowed_by_metadata()
    {
        await using var api = await FakeServer.StartAsync();
        var mine = await api.CreateAsync("""{"metadata": {"who": "me", "job": "a:b"}}""");
        await api.CreateAsync("""{"metadata": {"who": "you"}}""");
        var list = await api.SendAsync(HttpMethod.Get, "/sandboxes?metadata=who:me&metadata=job:a:b");
        Assert.Equal(mine, Assert.Single(list.Body.EnumerateArray()).GetProperty("sandbox_id").GetString());
        Assert.Equal(400, (await api.SendAsync(HttpMethod.Get, "/sandboxes?metadata=who")).Status);
    }

    [Fact]
    public async Task Keepalive_starts_the_idle_clock_again()
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        api.Node.Time.Advance(TimeSpan.FromSeconds(50));
        Assert.Equal(50, (await api.SendAsync(HttpMethod.Get, $"/sandboxes/{id}")).Body.GetProperty("idle_seconds").GetDouble());
        Assert.Equal(0, (await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/keepalive")).Body.GetProperty("idle_seconds").GetDouble());
    }

    [Fact]
    public async Task A_receipt_lists_each_resource_and_counts_the_remaining_ones()
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        var receipt = await api.SendAsync(HttpMethod.Delete, $"/sandboxes/{id}?receipt=true");
        Assert.Equal(200, receipt.Status);
        Assert.Equal("deleted", receipt.Body.GetProperty("reason").GetString());
        Assert.Equal(0, receipt.Body.GetProperty("left").GetInt32());
        Assert.Equal("connection", receipt.Body.GetProperty("resources")[0].GetProperty("kind").GetString());
    }

    [Fact]
    public async Task A_timeout_is_a_504_that_carries_the_output()
    {
        await using var api = await FakeServer.StartAsync();
        var exec = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{await api.CreateAsync()}/exec", """{"code": "timeout"}""");
        Assert.Equal(504, exec.Status);
        Assert.Equal("exec_timeout", exec.Body.GetProperty("code").GetString());
        Assert.Equal("so far", exec.Body.GetProperty("stdout").GetString());
        Assert.NotNull(exec.Body.GetProperty("detail").GetString());
    }

    [Fact]
    public async Task A_dead_sandbox_is_a_410_with_the_reason()
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        api.Node.MachineOf(id).Die("the guest powered itself off");
        await Fakes.FakeNode.UntilAsync(() => api.Node.Sandboxes.Count == 0);
        var exec = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "exit 0"}""");
        Assert.Equal(410, exec.Status);
        Assert.Contains("powered itself off", exec.Body.GetProperty("detail").GetString());
    }

    [Fact]
    public async Task The_limit_is_a_503_with_retry_after()
    {
        await using var api = await FakeServer.StartAsync(options: new EngineOptions { PoolSize = 1, MaxSandboxes = 1 });
        await api.CreateAsync();
        var refused = await api.SendAsync(HttpMethod.Post, "/sandboxes");
        Assert.Equal(503, refused.Status);
        Assert.Equal("sandbox_limit", refused.Body.GetProperty("code").GetString());
        Assert.NotNull(refused.Response.Headers.RetryAfter);
    }

    [Fact]
    public async Task An_internal_error_reveals_no_secret()
    {
        await using var api = await FakeServer.StartAsync();
        var exec = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{await api.CreateAsync()}/exec", """{"code": "crash"}""");
        Assert.Equal(500, exec.Status);
        Assert.DoesNotContain("secret", exec.Body.GetRawText());
        Assert.Equal("internal_error", exec.Body.GetProperty("code").GetString());
    }

    [Theory]
    [InlineData("not json", null)]
    [InlineData("[]", null)]
    [InlineData("\"text\"", null)]
    [InlineData("""{"idle_timeout": "60"}""", "idle_timeout")]
    [InlineData("""{"idle_timeout": NaN}""", "idle_timeout")]
    [InlineData("""{"idle_timeout": 5}""", "idle_timeout")]
    [InlineData("""{"idle_timeout": 86401}""", "idle_timeout")]
    [InlineData("""{"idle_timeout": 1e999}""", "idle_timeout")]
    [InlineData("""{"idle_timout": 60}""", "idle_timout")]
    [InlineData("""{"template": "nope"}""", "template")]
    [InlineData("""{"template": "../../etc"}""", "template")]
    [InlineData("""{"template": 5}""", "template")]
    [InlineData("""{"egress": "everything"}""", "egress")]
    [InlineData("""{"metadata": {"a": 1}}""", "metadata.a")]
    [InlineData("""{"metadata": {"a": null}}""", "metadata")]
    [InlineData("""{"metadata": []}""", "metadata")]
    public async Task A_bad_create_is_a_400_that_names_the_field(string body, string? field)
    {
        await using var api = await FakeServer.StartAsync();
        var answer = await api.SendAsync(HttpMethod.Post, "/sandboxes", body);
        AssertInvalid(answer.Status, answer.Body, answer.Response, field);
        Assert.Equal(0, api.Node.Sandboxes.Count);
    }

    [Theory]
    [InlineData("", null)]
    [InlineData("{}", "code")]
    [InlineData("""{"code": null}""", "code")]
    [InlineData("""{"code": 7}""", "code")]
    [InlineData("""{"code": "a\u0000b"}""", "code")]
    [InlineData("""{"code": "true", "timeout": 0.5}""", "timeout")]
    [InlineData("""{"code": "true", "timeout": 86401}""", "timeout")]
    [InlineData("""{"code": "true", "timeout": 1e22}""", "timeout")]
    [InlineData("""{"code": "true", "timeout": 922337203686}""", "timeout")]
    [InlineData("""{"code": "true", "timeout": 1e400}""", "timeout")]
    [InlineData("""{"code": "true", "timeout": "30"}""", "timeout")]
    [InlineData("""{"code": "true", "env": {"A-B": "1"}}""", "env")]
    [InlineData("""{"code": "true", "env": "A=1"}""", "env")]
    [InlineData("""{"code": "true", "user": "a b"}""", "user")]
    [InlineData("""{"code": "true", "cwd": ""}""", "cwd")]
    [InlineData("""{"code": "true", "shell": "zsh"}""", "shell")]
    public async Task A_bad_exec_is_a_400_that_names_the_field(string body, string? field)
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        var answer = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", body);
        AssertInvalid(answer.Status, answer.Body, answer.Response, field);
        Assert.Empty(api.Node.GuestOf(id).Commands);
    }

    [Theory]
    [InlineData("nope")]
    [InlineData("..%2f..%2fetc")]
    [InlineData("aaaaaaaaaaaaaaaaaaaaaaaa")]
    [InlineData("%F0%9F%92%A9")]
    public async Task An_unknown_id_is_a_404(string id)
    {
        await using var api = await FakeServer.StartAsync();
        foreach (
            var (method, path, body) in new[]
            {
                (HttpMethod.Get, "", null),
                (HttpMethod.Delete, "", null),
                (HttpMethod.Post, "/keepalive", null),
                (HttpMethod.Post, "/exec", """{"code":"exit 0"}"""),
            })
        {
            var answer = await api.SendAsync(method, $"/sandboxes/{id}{path}", body);
            Assert.Equal(404, answer.Status);
            Assert.Equal("application/problem+json", answer.Response.Content.Headers.ContentType!.MediaType);
        }
    }

    [Fact]
    public async Task Other_content_types_methods_and_paths_are_problems_too()
    {
        await using var api = await FakeServer.StartAsync();
        var type = await api.SendAsync(HttpMethod.Post, "/sandboxes", "idle_timeout=60", "application/x-www-form-urlencoded");
        Assert.Equal((415, "invalid_request"), (type.Status, type.Body.GetProperty("code").GetString()));
        var method = await api.SendAsync(HttpMethod.Put, "/sandboxes", "{}");
        Assert.Equal((405, "method_not_allowed"), (method.Status, method.Body.GetProperty("code").GetString()));
        var path = await api.SendAsync(HttpMethod.Get, "/nope");
        Assert.Equal((404, "not_found"), (path.Status, path.Body.GetProperty("code").GetString()));
        Assert.False(path.Body.TryGetProperty("trace_id", out _));
    }

    [Fact]
    public async Task The_server_is_ready_when_the_pool_is_full()
    {
        await using var api = await FakeServer.StartAsync();
        await Fakes.FakeNode.UntilAsync(() => api.Node.Pool.WarmCount == 2);
        Assert.Equal(200, (await api.SendAsync(HttpMethod.Get, "/ready")).Status);
    }

    private static void AssertInvalid(int status, JsonElement body, HttpResponseMessage response, string? field)
    {
        Assert.Equal(400, status);
        Assert.Equal("application/problem+json", response.Content.Headers.ContentType!.MediaType);
        Assert.Equal("invalid_request", body.GetProperty("code").GetString());
        Assert.False(string.IsNullOrWhiteSpace(body.GetProperty("detail").GetString()));
        Assert.DoesNotContain("System.", body.GetRawText());
        if (field is not null)
        {
            Assert.True(body.TryGetProperty("errors", out var errors), body.GetRawText());
            Assert.Equal(field, Assert.Single(errors.EnumerateObject()).Name);
        }
    }
}
