using Pandora.Client;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>
/// What a command in a sandbox is: as on any machine, whichever way runs it. Each part of this class is about one kind: processes and
/// signals, users and environment, bytes, limits, and what people expect of a guest.
/// </summary>
public abstract partial class CommandContract(ServerFixture fixture) : IAsyncLifetime
{
    private Sandbox _sandbox = null!;

    /// <summary>Root, a user with a home, and one without.</summary>
    public static TheoryData<string?> Users => new(new string?[] { null, "user", "nobody" });

    public async ValueTask InitializeAsync() =>
        _sandbox = await fixture.Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });

    public ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        return _sandbox.DisposeAsync();
    }

    internal ServerProcess Server => fixture.Server;

    private protected Sandbox Sandbox => _sandbox;

    private protected static ExecOptions As(string? user, double seconds = 120, string? stdin = null) =>
        new() { User = user, Timeout = TimeSpan.FromSeconds(seconds), Stdin = stdin };

    private protected Task<ExecResult> RunAsync(string code, ExecOptions? options = null) =>
        _sandbox.ExecAsync(code, options ?? As(null));

    /// <summary>Runs code that must end with exit code 0 and without errors, and returns its output.</summary>
    private protected async Task<string> OutputAsync(string code, ExecOptions? options = null)
    {
        var result = await RunAsync(code, options);
        Assert.True(result is { ExitCode: 0, Stderr: "" }, $"{code}: exit code {result.ExitCode}, {result.Stdout}{result.Stderr}");
        return result.Stdout;
    }

    private protected Task WriteAsync(string path, string text) => OutputAsync($"cat > {path}", As(null, stdin: text));

    /// <summary>Runs each command and compares them together, so that a failure shows all that are wrong.</summary>
    private protected async Task EndAsBashAnywhereAsync(IEnumerable<(string Code, int ExitCode, string Stdout)> cases, string? user)
    {
        var (expected, actual) = (new List<string>(), new List<string>());
        foreach (var (code, exitCode, stdout) in cases)
        {
            expected.Add($"{code} → {exitCode}, '{stdout}'");
            var result = await RunAsync(code, As(user));
            actual.Add($"{code} → {result.ExitCode}, '{result.Stdout}'");
        }

        Assert.Equal(expected, actual);
    }

    /// <summary>Runs a command until it prints what it should.</summary>
    private protected async Task UntilAsync(string code, string output)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        while ((await RunAsync(code)).Stdout != output)
        {
            Assert.False(limit.IsCancellationRequested, $"'{code}' did not print '{output}' in time");
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
        }
    }

    /// <summary>Waits until commands run again, after something that may have ended those under way.</summary>
    private protected async Task UntilCommandsRunAsync()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        while (true)
        {
            try
            {
                Assert.Equal("on\n", await OutputAsync("echo on", As(null, seconds: 10)));
                return;
            }
            catch (PandoraApiException) when (!limit.IsCancellationRequested)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(500), TimeProvider.System);
            }
        }
    }
}

/// <summary>Commands as the agent in the guest runs them: the default.</summary>
public sealed partial class AgentCommandTests(ServerFixture fixture) : CommandContract(fixture), IClassFixture<ServerFixture>;

/// <summary>Commands as the guest's SSH server runs them.</summary>
public sealed class SshCommandTests(SshServerFixture fixture) : CommandContract(fixture), IClassFixture<SshServerFixture>;

/// <summary>A server that runs commands over SSH.</summary>
public sealed class SshServerFixture : ServerFixture
{
    internal override Dictionary<string, string> Settings => new(base.Settings) { ["PANDORA_EXEC"] = "ssh" };
}
