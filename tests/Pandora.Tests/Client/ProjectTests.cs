using Pandora.Client;
using Pandora.Tests.Cli;

namespace Pandora.Tests.Client;

/// <summary>Sizes, projects and their bounds, as a server of today and an older one have them.</summary>
public sealed class ProjectTests
{
    private const string Created =
        """{"sandbox_id":"abc","slot_id":0,"guest_ip":"","warm":false,"acquire_ms":1,"idle_timeout":60,"template":"default"MORE}""";

    private const string Listed = """
        [{"sandbox_id":"abc","slot_id":0,"guest_ip":"","age_seconds":1,"idle_seconds":0,"idle_timeout":60,"exec_count":0,
        "template":"default","egress":"none","metadata":{}MORE}]
        """;

    private const string Health = """
        {"status":"ok","version":"1","pool_size":1,"warm_vms":1,"active_sandboxes":0,"max_sandboxes":1,"instance":"x","vmm":"x",
        "isolation":"x","notes":[]MORE}
        """;

    [Fact]
    public async Task A_size_is_sent_and_the_start_is_shown()
    {
        await using var server = new OneAnswerServer(201, Created.Replace("MORE", ",\"start\":\"boot\"", StringComparison.Ordinal));
        using var pandora = Connect(server);
        await using var sandbox = await pandora.CreateAsync(new() { MemoryMib = 1024, Vcpus = 2, DiskMib = 4096, KeepAlive = false });
        Assert.Contains("\"memory_mib\":1024,\"vcpus\":2,\"disk_mib\":4096", server.LastRequest);
        Assert.Equal("boot", sandbox.Start);
        Assert.Null(pandora.Connect("abc").Start);
    }

    [Fact]
    public async Task An_older_server_gets_no_member_that_it_refuses_and_need_not_answer_with_one()
    {
        await using var creating = new OneAnswerServer(201, Created.Replace("MORE", "", StringComparison.Ordinal));
        using (var pandora = Connect(creating))
        {
            await using var sandbox = await pandora.CreateAsync(new() { Template = "web", KeepAlive = false });
            Assert.EndsWith("{\"template\":\"web\"}", creating.LastRequest.Split("\r\n")[^4]);
            Assert.Null(sandbox.Start);
        }

        await using var server = new OneAnswerServer(200, Listed.Replace("MORE", "", StringComparison.Ordinal));
        using var older = Connect(server);
        var details = Assert.Single(await older.ListAsync());
        Assert.Equal(("default", null, null, null), (details.Project, details.MemoryMib, details.Vcpus, details.DiskMib));
        var health = await older.GetHealthAsync();
        Assert.Equal((null, null), (health.Capacity, health.Project));
    }

    [Fact]
    public async Task A_sandbox_has_its_project_and_its_size()
    {
        await using var server = new OneAnswerServer(200, Listed.Replace(
            "MORE", ",\"project\":\"team-a\",\"memory_mib\":1024,\"vcpus\":2,\"disk_mib\":4096", StringComparison.Ordinal));
        using var pandora = Connect(server);
        var details = Assert.Single(await pandora.ListAsync());
        Assert.Equal(("team-a", 1024, 2, 4096), (details.Project, details.MemoryMib, details.Vcpus, details.DiskMib));
    }

    [Fact]
    public async Task Health_has_the_capacity_and_the_project_of_the_key()
    {
        const string More = """
            ,"capacity":{"memory_mib":12000,"used_memory_mib":1536,"held_memory_mib":2048,"vcpus":32,"used_vcpus":3,"held_vcpus":4},
            "project":{"name":"team-a","sandboxes":2,"vcpus":3,"memory_mib":1536,"max_sandboxes":5,"max_lifetime":3600,"egress":"none",
            "templates":["default","web"]}
            """;
        await using var server = new OneAnswerServer(200, "")
        {
            AnswerTo = _ => Health.Replace("MORE", More, StringComparison.Ordinal),
        };
        using var pandora = Connect(server);
        var health = await pandora.GetHealthAsync();
        Assert.Equal(
            new ServerCapacity
            {
                MemoryMib = 12000,
                UsedMemoryMib = 1536,
                HeldMemoryMib = 2048,
                Vcpus = 32,
                UsedVcpus = 3,
                HeldVcpus = 4,
            },
            health.Capacity);
        Assert.Equal(["default", "web"], health.Project!.Templates!);
        Assert.Equal(
            new ProjectUsage
            {
                Name = "team-a",
                Sandboxes = 2,
                Vcpus = 3,
                MemoryMib = 1536,
                MaxSandboxes = 5,
                MaxLifetime = TimeSpan.FromHours(1),
                Egress = "none",
            },
            health.Project with { Templates = null });
    }

    [Theory]
    [InlineData("quota_exceeded", 429, true)]
    [InlineData("too_many_attempts", 429, false)]
    [InlineData("forbidden", 403, false)]
    [InlineData("unauthorized", 401, false)]
    public void A_stream_waits_for_what_may_pass_and_not_for_a_wrong_key(string code, int status, bool helps) =>
        Assert.Equal(helps, Reconnection.Helps(new PandoraApiException("a test says so", code, status)));

    [Fact]
    public void A_test_of_a_program_can_make_the_exception_of_a_quota() =>
        Assert.Equal(429, new SandboxUnavailableException("a test says so", "quota_exceeded").Status);

    private static PandoraClient Connect(OneAnswerServer server) => new(server.Url);
}
