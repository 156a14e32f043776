using System.Text.Json;
using ModelContextProtocol;
using Pandora.Engine;
using Pandora.Mcp;

namespace Pandora.Tests.Mcp;

/// <summary>Bad arguments of every tool: each answer names the argument, and nothing is left behind.</summary>
public sealed class ToolRefusalTests
{
    // SANDBOX stands for a sandbox that exists, PROCESS for the handle of a process that runs.
    private static readonly (string Tool, string Arguments, string Field)[] Cases =
    [
        ("run", "{}", "command"),
        ("run", """{"command": null}""", "command"),
        ("run", """{"command": 5}""", "command"),
        ("run", """{"command": ["a"]}""", "command"),
        ("run", """{"command": "a\u0000b"}""", "command"),
        ("run", """{"command": "x", "sandbox_id": "SANDBOX"}""", "sandbox_id"),
        ("run", """{"command": "x", "Sandbox": "SANDBOX"}""", "Sandbox"),
        ("run", """{"command": "x", "wait": -1}""", "wait"),
        ("run", """{"command": "x", "wait": 45.1}""", "wait"),
        ("run", """{"command": "x", "wait": "5"}""", "wait"),
        ("run", """{"command": "x", "max_chars": 199}""", "max_chars"),
        ("run", """{"command": "x", "max_chars": 1e9}""", "max_chars"),
        ("run", """{"command": "x", "max_chars": 200.5}""", "max_chars"),
        ("run", """{"command": "x", "env": {"1A": "b"}}""", "env"),
        ("run", """{"command": "x", "env": {"A": 1}}""", "env"),
        ("run", """{"command": "x", "env": {"A": null}}""", "env"),
        ("run", """{"command": "x", "env": "A=1"}""", "env"),
        ("run", """{"command": "x", "user": "no user"}""", "user"),
        ("run", """{"command": "x", "cwd": ""}""", "cwd"),
        ("run", """{"command": "x", "stdin": 1}""", "stdin"),
        ("process_start", """{"command": "x", "timeout": 0.5}""", "timeout"),
        ("process_start", """{"command": "x", "timeout": 1e12}""", "timeout"),
        ("process_start", """{"command": "x", "input": "yes"}""", "input"),
        ("process_read", "{}", "process"),
        ("process_read", """{"process": "x"}""", "process"),
        ("process_read", """{"process": "SANDBOX/"}""", "process"),
        ("process_read", """{"process": "SANDBOX/a/b"}""", "process"),
        ("process_read", """{"process": "PROCESS", "cursor": -1}""", "cursor"),
        ("process_read", """{"process": "PROCESS", "cursor": 5}""", "cursor"),
        ("process_read", """{"process": "PROCESS", "cursor": 1e30}""", "cursor"),
        ("process_read", """{"process": "PROCESS", "to_cursor": 0}""", "to_cursor"),
        ("process_read", """{"process": "PROCESS", "until_text": ""}""", "until_text"),
        ("process_read", """{"process": "PROCESS", "until_silence": 0}""", "until_silence"),
        ("process_read", """{"process": "PROCESS", "until_silence": 46}""", "until_silence"),
        ("process_input", """{"process": "PROCESS"}""", "text"),
        ("process_input", """{"process": "PROCESS", "text": ""}""", "text"),
        ("process_signal", """{"process": "PROCESS", "signal": "NONE"}""", "signal"),
        ("process_signal", """{"process": "PROCESS", "signal": "65"}""", "signal"),
        ("file_read", """{"path": ""}""", "path"),
        ("file_read", """{"path": "a\u0000b"}""", "path"),
        ("file_read", """{"path": "x", "first_line": 0}""", "first_line"),
        ("file_read", """{"path": "x", "first_line": 1, "cursor": 1}""", "first_line"),
        ("file_read", """{"path": "x", "cursor": -1}""", "cursor"),
        ("file_read", """{"path": "x", "max_chars": 1}""", "max_chars"),
        ("file_write", """{"path": "x"}""", "text"),
        ("file_write", """{"path": "x", "text": "a", "base64": "YQ=="}""", "text"),
        ("file_write", """{"path": "x", "base64": "?"}""", "base64"),
        ("file_write", """{"path": "x", "text": "a", "mode": "888"}""", "mode"),
        ("file_write", """{"path": "x", "text": "a", "mode": "rwx"}""", "mode"),
        ("file_edit", """{"path": "x", "old_text": "", "new_text": "b"}""", "old_text"),
        ("file_edit", """{"path": "x", "old_text": "a", "new_text": "a"}""", "new_text"),
        ("file_edit", """{"path": "x", "old_text": "a"}""", "new_text"),
        ("file_list", """{"depth": 0}""", "depth"),
        ("file_list", """{"limit": 1001}""", "limit"),
        ("file_list", """{"after": "no base64!"}""", "after"),
        ("file_search", "{}", "pattern"),
        ("file_search", """{"pattern": ""}""", "pattern"),
        ("file_search", """{"pattern": "a\nb"}""", "pattern"),
        ("file_search", """{"name": "a\u0000"}""", "name"),
        ("file_search", """{"pattern": "a", "limit": 0}""", "limit"),
        ("port_link", """{"port": 0, "sandbox": "SANDBOX"}""", "port"),
        ("port_link", """{"port": 80}""", "sandbox"),
        ("port_link", """{"port": 80, "sandbox": "SANDBOX", "lifetime": 0}""", "lifetime"),
        ("sandbox_create", """{"egress": "all"}""", "egress"),
        ("sandbox_create", """{"template": "none"}""", "template"),
        ("sandbox_create", """{"idle_timeout": 1}""", "idle_timeout"),
        ("sandbox_create", """{"lifetime": 86401}""", "lifetime"),
        ("sandbox_create", """{"memory_mib": -1}""", "memory_mib"),
        ("sandbox_create", """{"metadata": {}}""", "metadata"),
        ("sandbox_list", """{"all": true}""", "all"),
        ("sandbox_end", "{}", "sandbox"),
    ];

    [Fact]
    public async Task Each_is_refused_by_name_and_leaves_nothing()
    {
        await using var world = await McpWorld.StartAsync();
        var started = await world.DoAsync("process_start", new { command = "run" });
        var (sandbox, process) = (started.GetProperty("sandbox").GetString()!, started.GetProperty("process").GetString()!);
        foreach (var (tool, arguments, field) in Cases)
        {
            var given = arguments.Replace("SANDBOX", sandbox, StringComparison.Ordinal)
                .Replace("PROCESS", process, StringComparison.Ordinal);
            var (code, named, text) = await world.FailAsync(tool, JsonDocument.Parse(given).RootElement);
            Assert.True((code, named) == ("invalid_request", field), $"{tool} {arguments}: {text}");
            Assert.StartsWith($"invalid_request: {field}: ", text, StringComparison.Ordinal);
        }

        Assert.Equal([sandbox], world.Server.Node.Sandboxes.List().Select(s => s.Id));
        Assert.Equal(McpServices.All.Select(t => t.ProtocolTool.Name).Order(), Cases.Select(c => c.Tool).Distinct().Order());
    }

    [Fact]
    public async Task What_does_not_exist_is_not_found_and_no_other_is_made()
    {
        await using var world = await McpWorld.StartAsync();
        foreach (var (tool, arguments) in new (string, object)[]
        {
            ("run", new { command = "x", sandbox = "none" }),
            ("run", new { command = "x", sandbox = new string('a', 100_000) }),
            ("run", new { command = "x", sandbox = "" }),
            ("process_read", new { process = "none/none" }),
            ("file_write", new { path = "x", text = "", sandbox = "../.." }),
            ("port_link", new { port = 80, sandbox = "none" }),
            ("sandbox_end", new { sandbox = "none" }),
        })
        {
            var (code, _, text) = await world.FailAsync(tool, arguments);
            Assert.Equal("sandbox_not_found", code);
            Assert.InRange(text.Length, 1, 400);
        }

        var started = await world.DoAsync("process_start", new { command = "run" });
        var sandbox = started.GetProperty("sandbox").GetString();
        Assert.Equal("process_not_found", (await world.FailAsync("process_read", new { process = $"{sandbox}/none" })).Code);
        Assert.Single(world.Server.Node.Sandboxes.List());
    }

    [Fact]
    public async Task Only_what_was_made_through_MCP_can_be_ended()
    {
        await using var world = await McpWorld.StartAsync();
        var other = await world.Server.CreateAsync();
        var (_, field, _) = await world.FailAsync("sandbox_end", new { sandbox = other });
        Assert.Equal("sandbox", field);
        var own = (await world.DoAsync("sandbox_create", new { idle_timeout = 60, lifetime = 600 })).GetProperty("sandbox").GetString();
        var listed = (await world.DoAsync("sandbox_list", new { })).GetProperty("sandboxes").EnumerateArray()
            .ToDictionary(s => s.GetProperty("sandbox").GetString()!, s => s.GetProperty("made_through_mcp").GetBoolean());
        Assert.Equal((2, false, true), (listed.Count, listed[other], listed[own!]));
        // It can be used, though.
        await world.DoAsync("run", new { command = "exit 0", sandbox = other });
        Assert.True((await world.DoAsync("sandbox_end", new { sandbox = own })).GetProperty("ended").GetBoolean());
        var (code, _, text) = await world.FailAsync("run", new { command = "exit 0", sandbox = own });
        Assert.Equal("sandbox_not_found", code);
        Assert.Contains("sandbox_list has those that there are", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_tool_that_does_not_exist_is_a_protocol_error()
    {
        await using var world = await McpWorld.StartAsync();
        await Assert.ThrowsAsync<McpProtocolException>(() => world.CallAsync("nothing", new { }));
    }

    [Fact]
    public async Task A_server_that_is_full_says_when_to_try_again()
    {
        await using var world = await McpWorld.StartAsync(engine: new EngineOptions { MaxSandboxes = 1, PoolSize = 1 });
        await world.DoAsync("sandbox_create", new { });
        var result = await world.CallAsync("run", new { command = "exit 0" });
        var error = result.Meta!["pandora/error"]!;
        Assert.Equal(("sandbox_limit", 5), (error["code"]!.GetValue<string>(), error["retry_after"]!.GetValue<int>()));
        Assert.EndsWith("Try again in 5 s", McpWorld.TextOf(result), StringComparison.Ordinal);
    }
}
