using System.Runtime.InteropServices;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Time.Testing;
using Pandora.Cli.Sessions;
using Pandora.Contracts;
using Pandora.Tests.Client.Files;
using static Pandora.Tests.Cli.CliProcess;

namespace Pandora.Tests.Cli.Files;

/// <summary>What <c>run</c> copies, and what it refuses, as a shell sees it.</summary>
public sealed class RunCopiesTests : IAsyncLifetime
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-run").FullName;
    private readonly List<string> _steps = [];
    private FilesServer _server = null!;
    private string _isolation = "Firecracker/KVM (hardware virtualisation)";
    private bool? _isHardware;
    private int _exitCode;
    private bool _timesOut;

    public async ValueTask InitializeAsync()
    {
        _server = await FilesServer.StartAsync();
        _server.Instead = AnswerAsync;
    }

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        Directory.Delete(_directory, recursive: true);
    }

    [Theory]
    [InlineData(0, false, 0)]
    [InlineData(3, false, 3)]
    [InlineData(0, true, 124)]
    public async Task Results_come_out_however_the_command_ends(int ends, bool timesOut, int exitCode)
    {
        (_exitCode, _timesOut) = (ends, timesOut);
        await File.WriteAllTextAsync(Path.Combine(_directory, "in:put"), "1", Token);
        var (code, _, error) = await RunCliAsync(
            "--copy-in", $"{_directory}/in:put:/work/input", "--copy-out", $"/work/input:{_directory}/result", "--user", "u", "true");
        Assert.True(code == exitCode, error);
        Assert.Equal("1", await File.ReadAllTextAsync(Path.Combine(_directory, "result"), Token));
        Assert.Equal(["create", "PUT", "exec", "GET", "end"], _steps);
        Assert.Contains("PUT ?path=%2Fwork%2Finput&user=u", string.Join('\n', _server.Requests), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Without_a_target_it_is_the_home_and_this_directory()
    {
        await File.WriteAllTextAsync(Path.Combine(_directory, "data"), "1", Token);
        await RunCliAsync("--copy-in", $"{_directory}/data:", "true");
        Assert.Equal("1", await File.ReadAllTextAsync(_server.Local("data"), Token));
    }

    [Theory]
    [InlineData(0, 125)]
    [InlineData(3, 3)]
    public async Task A_result_that_is_not_there_changes_the_exit_code_of_success_only(int ends, int exitCode)
    {
        _exitCode = ends;
        var (code, _, error) = await RunCliAsync("--copy-out", $"/none:{_directory}/x", "--copy-out", $"/home:{_directory}/home", "true");
        Assert.Equal(exitCode, code);
        Assert.Contains(
            $"pandora: --copy-out: '/none' was not copied to '{_directory}/x': there is no such file", error, StringComparison.Ordinal);
        Assert.True(Directory.Exists(Path.Combine(_directory, "home")));
    }

    [Fact]
    public async Task What_is_wrong_is_said_before_a_sandbox_is_claimed()
    {
        var (code, _, error) = await RunCliAsync("--copy-in", "/nowhere/x:/y", "true");
        Assert.Equal(125, code);
        Assert.Contains("there is no local file '/nowhere/x'", error, StringComparison.Ordinal);
        (code, _, _) = await RunCliAsync("--env-file", "/nowhere/env", "true");
        Assert.Equal(125, code);
        Assert.Empty(_steps);
    }

    [Theory]
    [InlineData("any text", true, null)]
    [InlineData("QEMU/TCG (emulated, not a security boundary)", false, "are emulated: QEMU/TCG")]
    [InlineData("Firecracker/KVM (hardware virtualisation)", null, "is not known")]
    public async Task Hardware_is_required_by_what_the_server_says(string isolation, bool? isHardware, string? words)
    {
        (_isolation, _isHardware) = (isolation, isHardware);
        var (code, _, error) = await RunCliAsync("--require-hardware", "true");
        Assert.Equal((words is null ? 0 : 125, words is not null), (code, _steps.Count == 0));
        Assert.Contains(words ?? "", error, StringComparison.Ordinal);
    }

    [Fact]
    public void While_results_are_copied_the_second_signal_gives_up()
    {
        var said = new List<string>();
        using var interruption = new Interruption(_ => { }, said.Add, new FakeTimeProvider());
        interruption.Attach((_, _) => Task.CompletedTask);
        var stopped = interruption.BeginCopying();
        interruption.Receive(PosixSignal.SIGINT);
        Assert.False(stopped.IsCancellationRequested);
        Assert.Contains("Ctrl-C again", Assert.Single(said), StringComparison.Ordinal);
        interruption.Receive(PosixSignal.SIGINT);
        Assert.True(stopped.IsCancellationRequested);
    }

    [Fact]
    public void A_command_that_one_CtrlC_ended_has_its_results_copied_and_one_that_was_killed_has_not()
    {
        using var once = new Interruption(_ => { }, _ => { }, new FakeTimeProvider());
        once.Attach((_, _) => Task.CompletedTask);
        once.Receive(PosixSignal.SIGINT);
        var stopped = once.BeginCopying();
        Assert.False(stopped.IsCancellationRequested);
        once.Receive(PosixSignal.SIGINT);
        Assert.True(stopped.IsCancellationRequested);

        using var killed = new Interruption(_ => { }, _ => { }, new FakeTimeProvider());
        killed.Attach((_, _) => Task.CompletedTask);
        killed.Receive(PosixSignal.SIGTERM);
        Assert.True(killed.BeginCopying().IsCancellationRequested);
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private Task<(int ExitCode, string Output, string Error)> RunCliAsync(params string[] arguments) =>
        RunAsync(["--url", _server.Url, "run", .. arguments]);

    private async Task<bool> AnswerAsync(HttpContext context)
    {
        var request = $"{context.Request.Method} {context.Request.Path}";
        switch (request)
        {
            case "GET /health":
                var health = new Health("ok", "1", 1, 1, 0, 1, "x", "x", _isolation, [], 60, 60, HardwareIsolation: _isHardware);
                await FilesServer.AnswerAsync(context, 200, health, PandoraJson.Default.Health);
                return true;
            case "POST /sandboxes":
                _steps.Add("create");
                var created = new SandboxCreated("abc", 1, "x", true, 1, 60, "default");
                await FilesServer.AnswerAsync(context, 201, created, PandoraJson.Default.SandboxCreated);
                return true;
            case "POST /sandboxes/abc/exec":
                _steps.Add("exec");
                await (_timesOut
                    ? FilesServer.RefuseAsync(context, 504, "exec_timeout")
                    : FilesServer.AnswerAsync(
                        context, 200, new ExecResponse("abc", _exitCode, "", "", 1), PandoraJson.Default.ExecResponse));
                return true;
            case "DELETE /sandboxes/abc":
                _steps.Add("end");
                await FilesServer.AnswerAsync(
                    context, 200, new Receipt("abc", "deleted", 1, 1, 1, [], 0, _isolation), PandoraJson.Default.Receipt);
                return true;
            case "PUT /sandboxes/abc/files" or "GET /sandboxes/abc/files":
                _steps.Add(context.Request.Method);
                return false;
            default:
                return false;
        }
    }
}
