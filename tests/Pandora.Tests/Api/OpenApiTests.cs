using Pandora.Fakes;

namespace Pandora.Tests.Api;

public sealed class OpenApiTests
{
    [Fact]
    public async Task The_document_tells_routes_limits_and_errors()
    {
        await using var api = await FakeServer.StartAsync();
        var (status, document, _) = await api.SendAsync(HttpMethod.Get, "/openapi/v1.json");
        Assert.Equal(200, status);
        Assert.StartsWith("3.1", document.GetProperty("openapi").GetString());
        var paths = document.GetProperty("paths").EnumerateObject().SelectMany(p => p.Value.EnumerateObject().Select(m => $"{m.Name} {p.Name}")).Order();
        Assert.Equal(
            ["delete /sandboxes/{id}", "get /health", "get /ready", "get /sandboxes", "get /sandboxes/{id}", "post /sandboxes", "post /sandboxes/{id}/exec", "post /sandboxes/{id}/keepalive"], paths);
        var timeout = document.GetProperty("components").GetProperty("schemas").GetProperty("ExecRequest").GetProperty("properties").GetProperty("timeout");
        Assert.Equal(1, timeout.GetProperty("minimum").GetDouble());
        Assert.Equal(300, timeout.GetProperty("maximum").GetDouble());
        Assert.Equal("number", timeout.GetProperty("type").GetString());
        var answers = document.GetProperty("paths").GetProperty("/sandboxes/{id}/exec").GetProperty("post").GetProperty("responses").EnumerateObject().Select(r => r.Name);
        Assert.Superset(new HashSet<string> { "400", "401", "404", "410", "429", "502", "504" }, answers.ToHashSet());
    }

    [Fact]
    public async Task There_is_a_page_to_browse_it()
    {
        await using var api = await FakeServer.StartAsync();
        var (status, _, response) = await api.SendAsync(HttpMethod.Get, "/docs/");
        Assert.Equal(200, status);
        Assert.Contains("text/html", response.Content.Headers.ContentType!.ToString());
    }

    [Fact]
    public async Task Metrics_have_the_original_names_and_kinds()
    {
        await using var api = await FakeServer.StartAsync();
        await api.SendAsync(HttpMethod.Post, $"/sandboxes/{await api.CreateAsync()}/exec", """{"code": "exit 0"}""");
        var text = await api.Http.GetStringAsync(new Uri("/metrics", UriKind.Relative));
        foreach (var (name, kind) in new[]
        {
            ("pandora_sandbox_acquire_seconds", "histogram"), ("pandora_vm_exec_seconds", "histogram"),
            ("pandora_executions_total", "counter"), ("pandora_sandboxes_created_total", "counter"), ("pandora_sandboxes_reaped_total", "counter"), ("pandora_warm_boot_failures_total", "counter"),
        })
        {
            Assert.Contains($"# TYPE {name} {kind}", text);
        }

        Assert.Matches("pandora_executions_total\\{[^}]*status=\"success\"[^}]*\\} [1-9]", text);
        Assert.Contains("le=\"0.0001\"", text);
        Assert.Contains("le=\"60\"", text);
        Assert.DoesNotContain("sandbox_id", text);
    }
}
