using Microsoft.Extensions.Logging;
using System.Text.Json;
using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

public sealed class SandboxRegistryTests
{
    private static GuestCommand Code(string code) => new() { Code = code };

    private static async Task<PandoraException> FailsAsync(Func<Task> action, PandoraError error)
    {
        var exception = await Assert.ThrowsAsync<PandoraException>(action);
        Assert.Equal(error, exception.Error);
        return exception;
    }

    [Fact]
    public async Task A_claim_is_recorded_and_its_sandbox_is_found()
    {
        await using var node = new FakeNode();
        var metadata = new Dictionary<string, string> { ["who"] = "me" };
        var created = await node.Sandboxes.CreateAsync(
            new SandboxRequest(IdleTimeout: 30, Metadata: metadata, Egress: Egress.None), default);
        Assert.Matches("^[a-z0-9]{20,}$", created.Sandbox.Id);
        Assert.Same(created.Sandbox, node.Sandboxes.Get(created.Sandbox.Id));
        Assert.Equal(Egress.None, node.Egresses[created.Sandbox.Id]);
        using var record = JsonDocument.Parse(await File.ReadAllTextAsync(node.RecordOf(created.Sandbox.Id)));
        Assert.Equal("me", record.RootElement.GetProperty("claim").GetProperty("metadata").GetProperty("who").GetString());
        Assert.Equal(30, record.RootElement.GetProperty("claim").GetProperty("idle_timeout").GetDouble());
    }

    [Fact]
    public async Task Default_egress_changes_no_rule()
    {
        await using var node = new FakeNode();
        await node.Sandboxes.CreateAsync(new SandboxRequest(Egress: Egress.Internet), default);
        Assert.Empty(node.Egresses);
    }

    [Theory]
    [InlineData(9.9)]
    [InlineData(86_400.1)]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    [InlineData(-1)]
    public async Task An_idle_timeout_out_of_range_takes_no_microVM(double seconds)
    {
        await using var node = new FakeNode();
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 2);
        var exception = await FailsAsync(
            () => node.Sandboxes.CreateAsync(new SandboxRequest(IdleTimeout: seconds), default), PandoraError.InvalidRequest);
        Assert.Equal("idle_timeout", exception.Field);
        Assert.Equal(2, node.Pool.WarmCount);
        Assert.Equal(0, node.Sandboxes.Count);
    }

    [Fact]
    public async Task Metadata_over_16_KiB_and_unknown_templates_are_refused_by_name()
    {
        await using var node = new FakeNode();
        var huge = new Dictionary<string, string> { ["k"] = new('x', (16 * 1024) + 1) };
        Assert.Equal(
            "metadata",
            (
                await FailsAsync(() => node.Sandboxes.CreateAsync(new SandboxRequest(Metadata: huge), default), PandoraError.InvalidRequest)
            ).Field);
        Assert.Equal(
            "template",
            (
                await FailsAsync(
                    () => node.Sandboxes.CreateAsync(new SandboxRequest(Template: "nope"), default), PandoraError.InvalidRequest)).Field);
        Assert.Equal(0, node.Sandboxes.Count);
    }

    [Fact]
    public async Task The_limit_holds_and_a_deletion_makes_room()
    {
        await using var node = new FakeNode();
        var sandboxes = new List<Sandbox>();
        for (var i = 0; i < node.Options.MaxSandboxes; i++)
        {
            sandboxes.Add((await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox);
        }

        await FailsAsync(() => node.Sandboxes.CreateAsync(new SandboxRequest(), default), PandoraError.SandboxLimit);
        await node.Sandboxes.DeleteAsync(sandboxes[0].Id, complete: false);
        await node.Sandboxes.CreateAsync(new SandboxRequest(), default);
    }

    [Fact]
    public async Task A_claim_that_fails_half_way_releases_everything()
    {
        using var log = new KeptLog();
        await using var node = new FakeNode(loggers: log);
        await FakeNode.UntilAsync(() => node.Pool.WarmCount == 2);
        var directory = Path.GetDirectoryName(node.RecordOf(node.Booted[0].Id))!;
        Directory.Delete(directory, recursive: true);
        Directory.Delete(Path.GetDirectoryName(node.RecordOf(node.Booted[1].Id))!, recursive: true);
        var refused = await FailsAsync(() => node.Sandboxes.CreateAsync(new SandboxRequest(), default), PandoraError.HostFull);
        var host = Path.GetDirectoryName(directory)!;
        Assert.DoesNotContain(host, refused.Message + refused.Hint);
        Assert.Contains(log.Lines, l => l.Text.Contains(host, StringComparison.Ordinal));
        Assert.Equal(0, node.Sandboxes.Count);
        await FakeNode.UntilAsync(() => node.Booted.Count(b => b.Machine.IsDisposed) == 1);
    }

    [Fact]
    public async Task A_sandbox_that_waits_for_room_runs_nothing_and_says_so()
    {
        await using var node = new FakeNode();
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox;
        node.MachineOf(sandbox.Id).IsStalled = true;
        var refused = await FailsAsync(() => node.StartAsync(sandbox.Id, Code("exit 0"), default), PandoraError.HostFull);
        Assert.Equal(
            $"sandbox '{sandbox.Id}' waits for room on the server's disk, and continues when there is room: nothing was run",
            refused.Message);
        Assert.Empty(node.GuestOf(sandbox.Id).Commands);
    }

    [Fact]
    public async Task A_sandbox_whose_teardown_fails_has_ended()
    {
        using var log = new LogThatFails("could not be undone");
        await using var node = new FakeNode(loggers: log);
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox;
        sandbox.MicroVm.Teardown.Push(new HostResource(ResourceKind.Connection, "stuck"), () => throw new IOException("busy"));
        await Assert.ThrowsAsync<InvalidOperationException>(() => node.Sandboxes.DeleteAsync(sandbox.Id, complete: false));
        Assert.Equal((0, 0), (node.Sandboxes.Count, node.Sandboxes.List().Count));
        await FailsAsync(() => node.Sandboxes.DeleteAsync(sandbox.Id, complete: false), PandoraError.SandboxNotFound);
    }

    [Fact]
    public async Task An_exec_is_activity_until_its_result_is_delivered()
    {
        await using var node = new FakeNode();
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(IdleTimeout: 10), default)).Sandbox;
        var running = node.StartAsync(sandbox.Id, Code("hang"), default);
        await node.GuestOf(sandbox.Id).Hanging.Task;
        node.Time.Advance(TimeSpan.FromSeconds(100));
        await node.Sandboxes.ReapAsync();
        Assert.Null(sandbox.End);
        node.GuestOf(sandbox.Id).Release();
        var execution = await running;
        node.Time.Advance(TimeSpan.FromSeconds(100));
        await node.Sandboxes.ReapAsync();
        Assert.Null(sandbox.End);
        execution.Dispose();
        node.Time.Advance(TimeSpan.FromSeconds(9));
        await node.Sandboxes.ReapAsync();
        Assert.Null(sandbox.End);
        node.Time.Advance(TimeSpan.FromSeconds(1));
        await node.Sandboxes.ReapAsync();
        Assert.Equal(EndReason.Idle, sandbox.End!.Reason);
        var exception = await FailsAsync(() => node.StartAsync(sandbox.Id, Code("exit 0"), default), PandoraError.SandboxNotFound);
        Assert.Contains("nobody used it for 10 s", exception.Message);
    }

    [Fact]
    public async Task The_reaper_ends_idle_sandboxes_by_itself()
    {
        await using var node = new FakeNode();
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(IdleTimeout: 10), default)).Sandbox;
        await using var reaper = new Reaper(node.Sandboxes, node.Time, NullLogger<Reaper>.Instance);
        for (var i = 0; i < 9; i++)
        {
            node.Time.Advance(TimeSpan.FromSeconds(1));
        }

        Assert.Null(sandbox.End);
        await FakeNode.UntilAsync(() =>
        {
            node.Time.Advance(TimeSpan.FromSeconds(1));
            return sandbox.End is not null;
        });
        await FakeNode.UntilAsync(() => node.MachineOf(sandbox.Id).IsDisposed);
    }

    [Fact]
    public async Task A_dead_machine_ends_a_running_exec_at_once_with_the_reason()
    {
        await using var node = new FakeNode();
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox;
        var running = node.StartAsync(sandbox.Id, Code("hang"), default);
        await node.GuestOf(sandbox.Id).Hanging.Task;
        node.MachineOf(sandbox.Id).Die("the guest powered itself off");
        Assert.Contains("powered itself off", (await FailsAsync(() => running, PandoraError.SandboxGone)).Message);
        await FakeNode.UntilAsync(() => node.Sandboxes.Count == 0);
        await FailsAsync(() => node.StartAsync(sandbox.Id, Code("exit 0"), default), PandoraError.SandboxGone);
    }

    [Fact]
    public async Task Deleting_ends_a_running_exec_and_a_second_delete_finds_nothing()
    {
        await using var node = new FakeNode();
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox;
        var running = node.StartAsync(sandbox.Id, Code("hang"), default);
        await node.GuestOf(sandbox.Id).Hanging.Task;
        var deletes = Enumerable.Range(0, 8).Select(_ => Task.Run(() => node.Sandboxes.DeleteAsync(sandbox.Id, complete: true))).ToArray();
        await ((Task)Task.WhenAll(deletes)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _ = Assert.Single(deletes, d => d.IsCompletedSuccessfully);
        await FailsAsync(() => running, PandoraError.SandboxNotFound);
    }

    [Fact]
    public async Task A_disconnected_client_ends_its_command_and_not_the_sandbox()
    {
        await using var node = new FakeNode();
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox;
        using var client = new CancellationTokenSource();
        var running = node.StartAsync(sandbox.Id, Code("hang"), client.Token);
        await node.GuestOf(sandbox.Id).Hanging.Task;
        await client.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        Assert.Equal(0, (await node.ExecAsync(sandbox.Id, "exit 0")).ExitCode);
    }

    [Fact]
    public async Task Too_many_execs_at_once_are_refused()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1, MaxExecs = 1 });
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox;
        var running = node.StartAsync(sandbox.Id, Code("hang"), default);
        await node.GuestOf(sandbox.Id).Hanging.Task;
        await FailsAsync(() => node.StartAsync(sandbox.Id, Code("exit 0"), default), PandoraError.TooManyExecs);
        node.GuestOf(sandbox.Id).Release();
        await running;
        // A result that has not been read yet still counts.
        await FailsAsync(() => node.StartAsync(sandbox.Id, Code("exit 0"), default), PandoraError.TooManyExecs);
        (await running).Dispose();
        await node.ExecAsync(sandbox.Id, "exit 0");
    }

    public static TheoryData<string, GuestCommand> BadCommands => new()
    {
        { "code", new GuestCommand { Code = "echo \0" } },
        { "code", new GuestCommand { Code = new string('é', (1024 * 1024 / 2) + 1) } },
        { "stdin", new GuestCommand { Code = "cat", Stdin = new byte[(10 * 1024 * 1024) + 1] } },
        { "timeout", new GuestCommand { Code = "true", Timeout = TimeSpan.FromSeconds(0.9) } },
        { "timeout", new GuestCommand { Code = "true", Timeout = TimeSpan.FromSeconds(86_400.1) } },
        { "cwd", new GuestCommand { Code = "true", Cwd = "" } },
        { "cwd", new GuestCommand { Code = "true", Cwd = "/a\0b" } },
        { "user", new GuestCommand { Code = "true", User = "$(reboot)" } },
        { "user", new GuestCommand { Code = "true", User = "" } },
        { "user", new GuestCommand { Code = "true", User = "4294967295" } },
        { "user", new GuestCommand { Code = "true", User = "00000000001" } },
        { "user", new GuestCommand { Code = "true", User = "-1" } },
        { "user", new GuestCommand { Code = "true", User = "+1" } },
        { "user", new GuestCommand { Code = "true", User = " 1" } },
        { "user", new GuestCommand { Code = "true", User = "1000:1000" } },
        { "user", new GuestCommand { Code = "true", User = "1000\n" } },
        { "user", new GuestCommand { Code = "true", User = "\u0661" } },
        { "env", new GuestCommand { Code = "true", Env = new Dictionary<string, string> { ["A-B"] = "1" } } },
        { "env", new GuestCommand { Code = "true", Env = new Dictionary<string, string> { ["UID"] = "1" } } },
        { "env", new GuestCommand { Code = "true", Env = new Dictionary<string, string> { ["A"] = "\0" } } },
        { "env", new GuestCommand { Code = "true", Env = new Dictionary<string, string> { ["A"] = new('x', 64 * 1024) } } },
    };

    [Theory]
    [MemberData(nameof(BadCommands), DisableDiscoveryEnumeration = true)]
    public async Task A_bad_command_never_reaches_the_guest(string field, object command)
    {
        await using var node = new FakeNode();
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(), default)).Sandbox;
        var exception = await FailsAsync(() => node.StartAsync(sandbox.Id, (GuestCommand)command, default), PandoraError.InvalidRequest);
        Assert.Equal(field, exception.Field);
        Assert.Empty(node.GuestOf(sandbox.Id).Commands);
    }

    private sealed class LogThatFails(string words) : ILoggerFactory, ILogger
    {
        public ILogger CreateLogger(string categoryName) => this;

        public void AddProvider(ILoggerProvider provider)
        {
            // This log has no providers.
        }

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (formatter(state, exception).Contains(words, StringComparison.Ordinal))
            {
                throw new InvalidOperationException("a test makes this log fail");
            }
        }

        public void Dispose()
        {
            // There is nothing to dispose.
        }
    }
}
