using System.Text.Json;
using Pandora.Cli.Commands;
using Pandora.Contracts;
using Pandora.Tests.Client;
using Spectre.Console;
using static Pandora.Tests.Cli.CliProcess;

namespace Pandora.Tests.Cli;

/// <summary>Sizes, projects and capacity in commands and in what they print.</summary>
public sealed class ProjectCommandTests
{
    private const string Health = """
        {"status":"ok","version":"1","pool_size":1,"warm_vms":1,"active_sandboxes":0,"max_sandboxes":1,"instance":"x","vmm":"x",
        "isolation":"x","notes":["a note"]MORE}
        """;

    [Theory]
    [InlineData("create")]
    [InlineData("run", "true")]
    public async Task A_size_is_sent(params string[] command)
    {
        await using var server = await ProcessServer.StartAsync();
        server.Process.End(0);
        string[] size = ["--memory", "1024", "--vcpus", "2", "--disk", "4096"];
        Assert.Equal(0, (await RunAsync(["--url", server.Url, command[0], .. size, .. command[1..]])).ExitCode);
        Assert.EndsWith("\"memory_mib\":1024,\"vcpus\":2,\"disk_mib\":4096}", server.Bodies[0], StringComparison.Ordinal);
        await RunAsync(["--url", server.Url, .. command]);
        Assert.DoesNotContain(server.Bodies, b => b.Contains("null", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("create")]
    [InlineData("run")]
    [InlineData("shell")]
    public async Task Help_has_the_ranges_of_a_size(string command)
    {
        var (exitCode, output, error) = await RunAsync([command, "--help"]);
        Assert.Equal((0, ""), (exitCode, error));
        Assert.Contains($"{Limits.MinMemoryMib} to {Limits.MaxMemoryMib}", output);
        Assert.Contains($"1 to {Limits.MaxVcpus}", output);
        Assert.Contains($"{Limits.MinDiskMib} to {Limits.MaxDiskMib}", output);
    }

    [Theory]
    [InlineData("above_ceiling", 403, "at most 2048 MiB of memory are allowed")]
    [InlineData("quota_exceeded", 429, "5 of 5 sandboxes exist")]
    [InlineData("forbidden", 403, "the key only reads")]
    public async Task A_bound_of_the_project_is_an_error_as_any_other(string code, int status, string detail)
    {
        await using var server = new OneAnswerServer(
            status, $$"""{"title":"No","status":{{status}},"detail":"{{detail}}","code":"{{code}}"}""");
        Assert.Equal((125, "", $"pandora: {detail}\n"), await RunAsync(["--url", server.Url, "create", "--memory", "4096"]));
        var (exitCode, output, error) = await RunAsync(["--url", server.Url, "--json", "run", "--memory", "4096", "true"]);
        Assert.Equal((125, ""), (exitCode, output));
        Assert.Equal(code, JsonDocument.Parse(error).RootElement.GetProperty("code").GetString());
    }

    [Fact]
    public async Task Ls_shows_one_project_of_several()
    {
        var all = JsonSerializer.Serialize([Sandbox("one", "team-a"), Sandbox("two", "team-b")], PandoraJson.Default.SandboxInfoArray);
        await using var server = new OneAnswerServer(200, all);
        Assert.Equal((0, "one\ntwo\n", ""), await RunAsync(["--url", server.Url, "ls"]));
        Assert.Equal((0, "two\n", ""), await RunAsync(["--url", server.Url, "ls", "--project", "team-b"]));
        Assert.Equal((0, "", ""), await RunAsync(["--url", server.Url, "ls", "--project", "team"]));
        var (exitCode, output, _) = await RunAsync(["--url", server.Url, "ls", "--json", "--project", "team-a"]);
        var one = Assert.Single(JsonDocument.Parse(output).RootElement.EnumerateArray());
        Assert.Equal((0, "one", "team-a"), (exitCode, one.GetProperty("sandbox_id").GetString(), one.GetProperty("project").GetString()));
    }

    [Fact]
    public void The_table_has_projects_where_there_are_several()
    {
        var several = Render(ListCommand.ToTable([Sandbox("one", "team-a"), Sandbox("two", "team-b")]));
        Assert.Matches("(?s)id +project +template .*one +team-a +default .*two +team-b +default ", several);
        var single = Render(ListCommand.ToTable([Sandbox("one", "team-a"), Sandbox("two", "team-a")]));
        Assert.Matches("(?s)id +template .*one +default .*two +default ", single);
    }

    [Fact]
    public async Task Health_tells_capacity_and_project_in_words()
    {
        const string Capacity =
            ""","capacity":{"memory_mib":12000,"used_memory_mib":1536,"held_memory_mib":2048,"vcpus":32,"used_vcpus":3,"held_vcpus":4}""";
        const string Bounded = """
            ,"project":{"name":"team-a","sandboxes":2,"vcpus":3,"memory_mib":1536,"max_sandboxes":5,"max_vcpus":8,"max_memory_mib":4096,
            "max_lifetime":3600,"egress":"none","templates":["default","web"]}
            """;
        Assert.Equal("""
            memory      1536 of 12000 MiB in sandboxes, 2048 MiB in all microVMs
            vCPUs       3 of 32 in sandboxes, 4 in all microVMs
            project     team-a: sandboxes 2 of at most 5, vCPUs 3 of at most 8, memory 1536 of at most 4096 MiB
                        a sandbox lives at most 3600 s; egress at most none; templates default, web
            note        a note

            """, await AfterTimeoutsAsync(Capacity + Bounded));
        Assert.Equal("""
            project     default: sandboxes 0, vCPUs 0, memory 0 MiB
            note        a note

            """, await AfterTimeoutsAsync(""","project":{"name":"default","sandboxes":0,"vcpus":0,"memory_mib":0}"""));
        Assert.Equal("note        a note\n", await AfterTimeoutsAsync(""));
    }

    private static async Task<string> AfterTimeoutsAsync(string more)
    {
        await using var server = new OneAnswerServer(200, "")
        {
            AnswerTo = _ => Health.Replace("MORE", more, StringComparison.Ordinal),
        };
        var (exitCode, output, error) = await RunAsync(["--url", server.Url, "health"]);
        Assert.Equal((0, ""), (exitCode, error));
        var lines = output.Split('\n');
        return string.Join('\n', lines[(Array.FindIndex(lines, l => l.StartsWith("timeouts ", StringComparison.Ordinal)) + 1)..]);
    }

    private static string Render(Table table)
    {
        using var text = new StringWriter();
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(text), Ansi = AnsiSupport.No });
        console.Profile.Width = 120;
        console.Write(table);
        return text.ToString();
    }

    private static SandboxInfo Sandbox(string id, string project) =>
        new(id, 0, "192.0.2.1", 1, 0, 60, 1, "default", "none", new Dictionary<string, string>(), Project: project);
}
