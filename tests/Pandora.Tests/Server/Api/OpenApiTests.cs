using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Pandora.Fakes;

namespace Pandora.Tests.Api;

public sealed class OpenApiTests
{
    private static readonly string Golden = Repository.PathOf("docs/openapi.json");

    [Fact]
    public async Task The_document_lists_routes_limits_and_errors()
    {
        await using var api = await FakeServer.StartAsync();
        var (status, document, _) = await api.SendAsync(HttpMethod.Get, "/openapi/v1.json");
        Assert.Equal(200, status);
        Assert.StartsWith("3.1", document.GetProperty("openapi").GetString());
        var paths = document
            .GetProperty("paths")
            .EnumerateObject()
            .SelectMany(p => p.Value.EnumerateObject().Select(m => $"{m.Name} {p.Name}"))
            .Order();
        Assert.Equal(
            [
                "delete /sandboxes/{id}",
                "delete /sandboxes/{id}/files",
                "delete /sandboxes/{id}/processes/{processId}/input",
                "get /health",
                "get /ready",
                "get /sandboxes",
                "get /sandboxes/{id}",
                "get /sandboxes/{id}/files",
                "get /sandboxes/{id}/files/info",
                "get /sandboxes/{id}/files/list",
                "get /sandboxes/{id}/files/tar",
                "get /sandboxes/{id}/files/watch",
                "get /sandboxes/{id}/ports",
                "get /sandboxes/{id}/ports/{port}/connect",
                "get /sandboxes/{id}/processes",
                "get /sandboxes/{id}/processes/{processId}",
                "get /sandboxes/{id}/processes/{processId}/attach",
                "get /sandboxes/{id}/processes/{processId}/output",
                "get /sandboxes/{id}/processes/{processId}/wait",
                "get /sandboxes/{id}/ssh",
                "get /sandboxes/{id}/ssh-keys",
                "post /sandboxes",
                "post /sandboxes/{id}/exec",
                "post /sandboxes/{id}/files/copy",
                "post /sandboxes/{id}/files/mkdir",
                "post /sandboxes/{id}/files/move",
                "post /sandboxes/{id}/keepalive",
                "post /sandboxes/{id}/ports/{port}/links",
                "post /sandboxes/{id}/processes",
                "post /sandboxes/{id}/processes/{processId}/input",
                "post /sandboxes/{id}/processes/{processId}/resize",
                "post /sandboxes/{id}/processes/{processId}/signal",
                "put /sandboxes/{id}/egress",
                "put /sandboxes/{id}/files",
                "put /sandboxes/{id}/files/tar",
                "put /sandboxes/{id}/ports/{port}",
                "put /sandboxes/{id}/ssh-keys",
            ],
            paths);
        var timeout = document
            .GetProperty("components")
            .GetProperty("schemas")
            .GetProperty("ExecRequest")
            .GetProperty("properties")
            .GetProperty("timeout");
        Assert.Equal(1, timeout.GetProperty("minimum").GetDouble());
        Assert.False(timeout.TryGetProperty("maximum", out _));
        Assert.Equal(["null", "number"], timeout.GetProperty("type").EnumerateArray().Select(t => t.GetString()));
        var answers = document
            .GetProperty("paths")
            .GetProperty("/sandboxes/{id}/exec")
            .GetProperty("post")
            .GetProperty("responses")
            .EnumerateObject()
            .Select(r => r.Name);
        Assert.Superset(new HashSet<string> { "400", "401", "404", "410", "429", "502", "504" }, answers.ToHashSet());
    }

    [Fact]
    public async Task The_document_in_the_repository_agrees_with_the_server()
    {
        await using var api = await FakeServer.StartAsync();
        var document = JsonNode.Parse(await api.Http.GetStringAsync(new Uri("/openapi/v1.json", UriKind.Relative)))!;
        // The version of the server is not part of the contract.
        document["info"]!["version"] = "1";
        var text = document.ToJsonString(
            new JsonSerializerOptions { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }) + "\n";
        if (Environment.GetEnvironmentVariable("MAKE_OPENAPI") == "1")
        {
            await File.WriteAllTextAsync(Golden, text);
        }

        Assert.True(
            File.Exists(Golden) && await File.ReadAllTextAsync(Golden) == text,
            "docs/openapi.json differs from the server's document. If the change is intended, run this test with MAKE_OPENAPI=1 in its "
                + "environment");
    }

    [Fact]
    public async Task Every_operation_has_a_success_answer_and_problems_of_the_type_ApiProblem()
    {
        await using var api = await FakeServer.StartAsync();
        var (_, document, _) = await api.SendAsync(HttpMethod.Get, "/openapi/v1.json");
        foreach (var (path, method, operation) in document.GetProperty("paths").EnumerateObject()
            .SelectMany(p => p.Value.EnumerateObject().Select(m => (p.Name, m.Name, m.Value))))
        {
            var answers = operation.GetProperty("responses").EnumerateObject().ToList();
            Assert.True(answers.Any(a => a.Name[0] == '2' || a.Name == "101"), $"{method} {path}");
            foreach (var answer in answers.Where(a => a.Name[0] is '4' or '5'))
            {
                var content = Assert.Single(answer.Value.GetProperty("content").EnumerateObject());
                Assert.Equal("application/problem+json", content.Name);
                Assert.EndsWith("/ApiProblem", content.Value.GetProperty("schema").GetProperty("$ref").GetString());
            }

            Assert.True(answers.Any(a => a.Name[0] is '4' or '5'), $"{method} {path}");
        }

        var delete = document.GetProperty("paths").GetProperty("/sandboxes/{id}").GetProperty("delete").GetProperty("responses");
        Assert.EndsWith("/Receipt",
            delete.GetProperty("200").GetProperty("content").GetProperty("application/json").GetProperty("schema").GetProperty("$ref")
            .GetString());
        Assert.False(delete.GetProperty("204").TryGetProperty("content", out _));
        var exec = document.GetProperty("paths").GetProperty("/sandboxes/{id}/exec").GetProperty("post").GetProperty("responses")
            .GetProperty("200");
        Assert.EndsWith("/ExecResponse",
            exec.GetProperty("content").GetProperty("application/json").GetProperty("schema").GetProperty("$ref").GetString());
    }

    [Fact]
    public async Task A_page_shows_the_document()
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
        foreach (
            var (name, kind) in new[]
            {
                ("pandora_sandbox_acquire_seconds", "histogram"),
                ("pandora_vm_exec_seconds", "histogram"),
                ("pandora_executions_total", "counter"),
                ("pandora_sandboxes_created_total", "counter"),
                ("pandora_sandboxes_reaped_total", "counter"),
                ("pandora_warm_boot_failures_total", "counter"),
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
