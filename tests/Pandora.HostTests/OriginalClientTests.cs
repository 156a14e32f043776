using System.Diagnostics;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;

namespace Pandora.HostTests;

/// <summary>
/// A client as strict as the original Pandora's, against the real server. The original client takes every member of an exec answer, and
/// fails on a member that it does not know.
/// </summary>
public sealed class OriginalClientTests(OriginalClientFixture fixture) : IClassFixture<OriginalClientFixture>
{
    private HttpClient Http => fixture.Server.Http;

    [Fact]
    public async Task The_original_client_accepts_every_answer()
    {
        var created = await CreateAsync();
        Assert.Equal(60.0, created.IdleTimeout);
        foreach (
            var (code, exitCode, stdout, stderr) in new[]
            {
                ("echo hello", 0, "hello\n", ""),
                ("echo no >&2; exit 3", 3, "", "no\n"),
                ("printf 'h\\303\\251'", 0, "hé", ""),
            })
        {
            var result = await ExecAsync(created.SandboxId, code);
            Assert.Equal((created.SandboxId, exitCode, stdout, stderr), (result.SandboxId, result.ExitCode, result.Stdout, result.Stderr));
            Assert.True(result.ExecMs > 0);
        }

        var listed = (await SendAsync(HttpMethod.Get, "/sandboxes", null, 200)).EnumerateArray()
            .Single(s => s.GetProperty("sandbox_id").GetString() == created.SandboxId);
        Assert.Equal((created.SlotId, created.GuestIp, 60.0, 3),
            (listed.GetProperty("slot_id").GetInt32(), listed.GetProperty("guest_ip").GetString(),
            listed.GetProperty("idle_timeout").GetDouble(), listed.GetProperty("exec_count").GetInt32()));
        Assert.True(listed.GetProperty("age_seconds").GetDouble() >= listed.GetProperty("idle_seconds").GetDouble());
        var health = await SendAsync(HttpMethod.Get, "/health", null, 200);
        Assert.Equal("ok", health.GetProperty("status").GetString());
        Assert.NotEmpty(health.GetProperty("version").GetString()!);
        Assert.True(health.GetProperty("pool_size").GetInt32() > 0 && health.GetProperty("warm_vms").GetInt32() >= 0
            && health.GetProperty("active_sandboxes").GetInt32() > 0);
        Assert.Contains("pandora_executions_total", await Http.GetStringAsync(new Uri("/metrics", UriKind.Relative)));

        // The original client reads success from the class of the status, and the reason from 'detail'.
        await SendAsync(HttpMethod.Post, $"/sandboxes/{created.SandboxId}/exec", new { code = "sleep 60", timeout = 1.0 }, 504);
        await SendAsync(HttpMethod.Post, $"/sandboxes/{created.SandboxId}/exec", new { code = "true", timeout = 0.5 }, 400);
        await SendAsync(HttpMethod.Post, "/sandboxes", new { idle_timeout = 5.0 }, 400);
        await DeleteAsync(created.SandboxId, 204);
        await DeleteAsync(created.SandboxId, 404);
        await SendAsync(HttpMethod.Post, $"/sandboxes/{created.SandboxId}/exec", new { code = "true", timeout = 30.0 }, 404);
    }

    [Fact]
    public async Task A_flag_is_a_member_only_when_it_is_true()
    {
        var created = await CreateAsync();
        var answer = await SendAsync(HttpMethod.Post, $"/sandboxes/{created.SandboxId}/exec",
            new { code = "head -c 11000000 /dev/zero | tr '\\0' 'a'", timeout = 120.0 }, 200);
        Assert.Equal(["exec_ms", "exit_code", "sandbox_id", "stderr", "stdout", "truncated"],
            answer.EnumerateObject().Select(m => m.Name).Order(StringComparer.Ordinal));
        Assert.True(answer.GetProperty("truncated").GetBoolean());
        await DeleteAsync(created.SandboxId, 204);
    }

    [Fact]
    public async Task The_originals_stress_run_succeeds()
    {
        using var permits = new SemaphoreSlim(4);
        var slots = await Task.WhenAll(Enumerable.Range(0, 10).Select(async _ =>
        {
            await permits.WaitAsync();
            try
            {
                var start = Stopwatch.GetTimestamp();
                var created = await CreateAsync();
                for (var i = 0; i < 3; i++)
                {
                    var result = await ExecAsync(created.SandboxId, "echo hello && hostname");
                    Assert.Equal(0, result.ExitCode);
                    Assert.StartsWith("hello\n", result.Stdout);
                }

                await DeleteAsync(created.SandboxId, 204);
                TestContext.Current.TestOutputHelper!.WriteLine(
                    $"slot {created.SlotId}: {Stopwatch.GetElapsedTime(start).TotalSeconds:0.0} s");
                return created.SlotId;
            }
            finally
            {
                permits.Release();
            }
        }));
        Assert.Equal(10, slots.Length);
    }

    private async Task<Created> CreateAsync()
    {
        var answer = await SendAsync(HttpMethod.Post, "/sandboxes", new { idle_timeout = 60.0 }, 201);
        return new Created(
            answer.GetProperty("sandbox_id").GetString()!, answer.GetProperty("slot_id").GetInt32(),
            answer.GetProperty("guest_ip").GetString()!, answer.GetProperty("warm").GetBoolean(),
            answer.GetProperty("acquire_ms").GetDouble(), answer.GetProperty("idle_timeout").GetDouble());
    }

    // The original client calls ExecResult(**answer), a frozen dataclass: the answer must have exactly these members.
    private async Task<Result> ExecAsync(string id, string code)
    {
        var answer = await SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", new { code, timeout = 30.0 }, 200);
        Assert.Equal(["exec_ms", "exit_code", "sandbox_id", "stderr", "stdout"],
            answer.EnumerateObject().Select(m => m.Name).Order(StringComparer.Ordinal));
        return new Result(
            answer.GetProperty("sandbox_id").GetString()!, answer.GetProperty("exit_code").GetInt32(),
            answer.GetProperty("stdout").GetString()!, answer.GetProperty("stderr").GetString()!,
            answer.GetProperty("exec_ms").GetDouble());
    }

    private async Task DeleteAsync(string id, int status)
    {
        using var response = await Http.DeleteAsync(new Uri($"/sandboxes/{id}", UriKind.Relative));
        Assert.Equal(status, (int)response.StatusCode);
    }

    private async Task<JsonElement> SendAsync(HttpMethod method, string path, object? body, int status)
    {
        using var request = new HttpRequestMessage(method, path) { Content = body is null ? null : JsonContent.Create(body) };
        using var response = await Http.SendAsync(request);
        var answer = JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement;
        Assert.Equal((HttpStatusCode)status, response.StatusCode);
        if (status >= 400)
        {
            Assert.NotEmpty(answer.GetProperty("detail").GetString()!);
        }

        return answer;
    }

    private sealed record Created(string SandboxId, int SlotId, string GuestIp, bool Warm, double AcquireMs, double IdleTimeout);

    private sealed record Result(string SandboxId, int ExitCode, string Stdout, string Stderr, double ExecMs);
}

/// <summary>A server with the pool size of the original.</summary>
public sealed class OriginalClientFixture : ServerFixture
{
    internal override Dictionary<string, string> Settings => new() { ["PANDORA_POOL_SIZE"] = "4" };
}
