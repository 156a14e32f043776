using System.Text.Json;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Projects;
using Pandora.Fakes;

namespace Pandora.Tests.Auth;

/// <summary>What a client is answered with above a quota or a ceiling, and what /health says.</summary>
public sealed class ProjectBoundTests
{
    [Theory]
    [InlineData("""{"egress": "internet"}""", 403, "egress_forbidden", "egress", "none")]
    [InlineData("""{"idle_timeout": 3601}""", 403, "above_ceiling", "idle_timeout", "3600 s")]
    [InlineData("""{"template": "web"}""", 403, "above_ceiling", "template", "default")]
    [InlineData("""{"memory_mib": 2000}""", 403, "above_ceiling", "memory_mib", "1000 MiB")]
    [InlineData("""{"vcpus": 5}""", 403, "above_ceiling", "vcpus", "4")]
    [InlineData("""{"memory_mib": 64}""", 400, "invalid_request", "memory_mib", "128")]
    [InlineData("""{"vcpus": 0}""", 400, "invalid_request", "vcpus", "1")]
    [InlineData("""{"disk_mib": 1}""", 400, "invalid_request", "disk_mib", "64")]
    [InlineData("""{"memory_mib": "much"}""", 400, "invalid_request", "memory_mib", "")]
    public async Task A_request_above_a_ceiling_says_what_is_allowed(string body, int status, string code, string field, string words)
    {
        await using var api = await StartAsync();
        api.Node.AddTemplate("web");
        var answer = await api.SendAsync(HttpMethod.Post, "/sandboxes", body);
        Assert.Equal((status, code), (answer.Status, answer.Body.GetProperty("code").GetString()));
        Assert.Contains(words, answer.Body.GetProperty("detail").GetString(), StringComparison.Ordinal);
        Assert.Equal(field, Assert.Single(answer.Body.GetProperty("errors").EnumerateObject()).Name);
        Assert.Equal(0, api.Node.Sandboxes.Count);
    }

    [Fact]
    public async Task A_quota_says_what_is_used_and_when_to_try_again()
    {
        await using var api = await StartAsync();
        var ids = new[] { await api.CreateAsync(), await api.CreateAsync() };
        var answer = await api.SendAsync(HttpMethod.Post, "/sandboxes", "{}");
        Assert.Equal((429, "quota_exceeded"), (answer.Status, answer.Body.GetProperty("code").GetString()));
        Assert.Contains("uses 2 of its 2 sandboxes", answer.Body.GetProperty("detail").GetString(), StringComparison.Ordinal);
        Assert.NotNull(answer.Response.Headers.RetryAfter);
        await api.SendAsync(HttpMethod.Delete, $"/sandboxes/{ids[0]}");
        Assert.Equal(201, (await api.SendAsync(HttpMethod.Post, "/sandboxes", "{}")).Status);
    }

    [Fact]
    public async Task Health_shows_the_projects_use_and_bounds_and_what_the_host_gives()
    {
        await using var api = await StartAsync();
        await api.CreateAsync();
        var health = (await api.SendAsync(HttpMethod.Get, "/health")).Body.Deserialize(PandoraJson.Default.Health)!;
        Assert.Equal(("default", 1, 1, 256L), (
            health.Project!.Name, health.Project.Sandboxes, health.Project.Vcpus, health.Project.MemoryMib));
        Assert.Equal((2, 4, 1000, 3600.0, "none"), (
            health.Project.MaxSandboxes, health.Project.MaxVcpus, health.Project.MaxMemoryMib, health.Project.MaxLifetime,
            health.Project.Egress));
        Assert.Equal(["default"], health.Project.Templates);
        Assert.Equal((512, 1), (health.Capacity!.UsedMemoryMib, health.Capacity.UsedVcpus));
        Assert.True(health.Capacity.HeldMemoryMib >= 512 && health.Capacity.MemoryMib > 512);
    }

    [Fact]
    public async Task What_is_not_asked_for_is_within_the_ceilings()
    {
        await using var api = await StartAsync();
        var id = await api.CreateAsync();
        Assert.Equal("none", (await api.SendAsync(HttpMethod.Get, $"/sandboxes/{id}")).Body.GetProperty("egress").GetString());
        Assert.Equal(Egress.None, api.Node.Egresses[id]);
    }

    private static Task<FakeServer> StartAsync()
    {
        var bounded = new Project(Project.DefaultName)
        {
            MaxSandboxes = 2,
            MaxVcpus = 4,
            MaxMemoryMib = 1000,
            MaxLifetime = 3600,
            Egress = Egress.None,
            Templates = ["default"],
        };
        return FakeServer.StartAsync(projects: name => name == bounded.Name ? bounded : new Project(name));
    }
}
