using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using Pandora.Client;
using Pandora.Engine;
using Pandora.Engine.Projects;
using Pandora.Fakes;
using Pandora.Tests.Audit;
using Pandora.Tests.Cli;

namespace Pandora.Tests.Api;

/// <summary><c>PUT /sandboxes/{id}/egress</c>: its answers, its client, its command and its line in the audit.</summary>
public sealed class EgressApiTests
{
    [Fact]
    public async Task The_answer_is_the_sandbox_with_its_new_egress()
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        foreach (var egress in new[] { "none", "none", "internet" })
        {
            var answer = await PutAsync(api, id, $$"""{"egress": "{{egress}}"}""");
            Assert.Equal(
                (200, id, egress),
                (answer.Status, answer.Body.GetProperty("sandbox_id").GetString(), answer.Body.GetProperty("egress").GetString()));
            Assert.Equal(egress, (await api.SendAsync(HttpMethod.Get, $"/sandboxes/{id}")).Body.GetProperty("egress").GetString());
        }

        Assert.Equal(Egress.Internet, api.Node.Egresses[id]);
    }

    [Theory]
    [InlineData("""{}""", 400, "invalid_request", "egress")]
    [InlineData("""{"egress": null}""", 400, "invalid_request", "egress")]
    [InlineData("""{"egress": ""}""", 400, "invalid_request", "egress")]
    [InlineData("""{"egress": "all"}""", 400, "invalid_request", "egress")]
    [InlineData("""{"egress": "None"}""", 400, "invalid_request", "egress")]
    [InlineData("""{"egress": 1}""", 400, "invalid_request", null)]
    [InlineData("""{"egress": "none", "more": 1}""", 400, "invalid_request", null)]
    [InlineData("""{""", 400, "invalid_request", null)]
    [InlineData(null, 400, "invalid_request", null)]
    public async Task A_body_that_is_no_egress_changes_nothing(string? body, int status, string code, string? field)
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        var answer = await PutAsync(api, id, body);
        Assert.Equal((status, code), (answer.Status, answer.Body.GetProperty("code").GetString()));
        if (field is not null)
        {
            Assert.Equal(field, Assert.Single(answer.Body.GetProperty("errors").EnumerateObject()).Name);
        }

        Assert.Empty(api.Node.Egresses);
    }

    [Fact]
    public async Task Each_error_has_its_code()
    {
        await using var api = await FakeServer.StartAsync(projects: name => new Project(name) { Egress = Egress.None });
        var failures = new ConcurrentBag<string>();
        using var counter = new MeterListener
        {
            InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Name == "pandora_failures" && ReferenceEquals(instrument.Meter.Scope, api.Node.Meters))
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            },
        };
        counter.SetMeasurementEventCallback<long>((_, _, tags, _) =>
        {
            var labels = tags.ToArray().ToDictionary(t => t.Key, t => $"{t.Value}");
            Assert.Equal("egress", labels["operation"]);
            failures.Add(labels["code"]);
        });
        counter.Start();
        var id = await api.CreateAsync();
        await AnswersAsync(id, "internet", 403, "egress_forbidden");
        await AnswersAsync("nope", "none", 404, "sandbox_not_found");
        api.Node.Network.OnEgress = (_, _) => throw new PandoraException(PandoraError.NotProtected, "the rules could not be set");
        Assert.NotNull((await AnswersAsync(id, "none", 503, "not_protected")).Headers.RetryAfter);
        Directory.CreateDirectory(api.Node.RecordOf(id) + ".new");
        await AnswersAsync(id, "none", 503, "host_full");
        Directory.Delete(api.Node.RecordOf(id) + ".new");
        api.Node.MachineOf(id).Die("killed");
        await FakeNode.UntilAsync(() => api.Node.Sandboxes.Count == 0);
        await AnswersAsync(id, "none", 410, "sandbox_gone");
        Assert.Equal(405, (await api.SendAsync(HttpMethod.Get, $"/sandboxes/{id}/egress")).Status);
        Assert.Equal(["egress_forbidden", "host_full", "not_protected", "sandbox_gone", "sandbox_not_found"], failures.Order());

        async Task<HttpResponseMessage> AnswersAsync(string sandbox, string egress, int status, string code)
        {
            var answer = await PutAsync(api, sandbox, $$"""{"egress": "{{egress}}"}""");
            Assert.Equal((status, code), (answer.Status, answer.Body.GetProperty("code").GetString()));
            return answer.Response;
        }
    }

    [Fact]
    public async Task The_audit_has_a_line_with_the_egress()
    {
        await using var audited = await AuditedServer.StartAsync(projects: name => new Project(name) { Egress = Egress.None });
        var id = await audited.Server.CreateAsync();
        await PutAsync(audited.Server, id, """{"egress": "none"}""");
        await PutAsync(audited.Server, id, """{"egress": "internet"}""");
        await PutAsync(audited.Server, "nope", """{"egress": "none"}""");
        var lines = (await audited.StopAsync()).Where(l => l.GetProperty("operation").GetString() == "egress").ToList();
        Assert.Equal(["ok", "egress_forbidden", "sandbox_not_found"], lines.Select(l => l.GetProperty("outcome").GetString()));
        Assert.Equal(["none", "internet"], lines[..2].Select(l => l.GetProperty("egress").GetString()));
        Assert.Equal(id, lines[0].GetProperty("sandbox").GetString());
    }

    [Fact]
    public async Task The_client_sets_it_and_throws_what_the_server_refuses()
    {
        await using var api = await FakeServer.StartAsync();
        using var pandora = new PandoraClient(api.Http, new PandoraClientOptions { KeepAlive = false });
        await using var sandbox = await pandora.CreateAsync();
        Assert.Equal("none", (await sandbox.SetEgressAsync("none")).Egress);
        Assert.Equal("none", (await sandbox.GetAsync()).Egress);
        await Assert.ThrowsAsync<InvalidRequestException>(() => sandbox.SetEgressAsync("all"));
        await sandbox.EndAsync();
        await Assert.ThrowsAsync<SandboxNotFoundException>(() => sandbox.SetEgressAsync("none"));
    }

    [Fact]
    public async Task The_command_sets_it()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var id = await api.CreateAsync();
        string[] server = ["--url", api.Http.BaseAddress!.ToString()];
        Assert.Equal((0, "", ""), await CliProcess.RunAsync(["egress", id, "none", .. server]));
        Assert.Equal(Egress.None, api.Node.Egresses[id]);
        var (exitCode, output, _) = await CliProcess.RunAsync(["egress", id, "internet", "--json", .. server]);
        Assert.Equal(0, exitCode);
        Assert.Contains("\"egress\":\"internet\"", output, StringComparison.Ordinal);
        (exitCode, output, var error) = await CliProcess.RunAsync(["egress", id, "all", .. server]);
        Assert.Equal((125, ""), (exitCode, output));
        Assert.Contains("must be internet or none", error, StringComparison.Ordinal);
        (exitCode, _, error) = await CliProcess.RunAsync(["egress", id, .. server]);
        Assert.Equal(125, exitCode);
        Assert.Contains("egress", error, StringComparison.Ordinal);
    }

    private static Task<(int Status, System.Text.Json.JsonElement Body, HttpResponseMessage Response)> PutAsync(
        FakeServer api, string id, string? body) => api.SendAsync(HttpMethod.Put, $"/sandboxes/{id}/egress", body);
}
