using System.Diagnostics;
using System.Globalization;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.Proof.World;
using Pandora.Vmm.Linux;

namespace Pandora.Proof.Checks;

/// <summary>What must hold when commands run away, servers and VMMs are killed, and sandboxes end.</summary>
internal static class Life
{
    /// <summary>All of them.</summary>
    public static IReadOnlyList<Check> All { get; } =
    [
        new("a timeout kills a command and all that it started", TimeoutAsync),
        new("kill -9 of a VMM ends its sandbox at once, and the next claim works", KilledVmmAsync),
        new("kill -9 of the server: sandboxes live on, a running command is not repeated", KilledServerAsync),
        new("a sandbox's end leaves nothing", NothingLeftAsync),
    ];

    private static async Task<string> TimeoutAsync(Stage stage, Sandbox sandbox)
    {
        var start = Stopwatch.GetTimestamp();
        try
        {
            await sandbox.ExecAsync("setsid sleep 4321 & sleep 4321", TimeSpan.FromSeconds(1));
            throw new ProofException("it ran on");
        }
        catch (ExecTimeoutException e)
        {
            ProofException.Require(e.Command == CommandStates.Killed, e.Message);
            var elapsed = Stopwatch.GetElapsedTime(start);
            var left = await sandbox.ExecAsync("pgrep -fc '^sleep 4321'");
            ProofException.Require(left.Stdout.Trim() == "0", $"{left.Stdout.Trim()} processes are left of it");
            return Invariant($"1 s of time, killed after {elapsed.TotalSeconds:0.0} s");
        }
    }

    private static async Task<string> KilledVmmAsync(Stage stage, Sandbox sandbox)
    {
        var running = sandbox.ExecAsync("sleep 60");
        await Task.Delay(TimeSpan.FromMilliseconds(500), TimeProvider.System);
        var start = Stopwatch.GetTimestamp();
        using (var process = ProcessHandle.TryOpen(stage.Server.VmmPidOf(sandbox.Id)))
        {
            process!.Kill();
        }

        try
        {
            await running;
            throw new ProofException("its command ran on");
        }
        catch (SandboxGoneException)
        {
            var elapsed = Stopwatch.GetElapsedTime(start);
            ProofException.Require(elapsed < TimeSpan.FromSeconds(3), Invariant($"its client was told after {elapsed.TotalSeconds:0.0} s"));
            await using var next = await stage.Server.Pandora.CreateAsync();
            ProofException.Require((await next.ExecAsync("true")).ExitCode == 0, "the next sandbox does not work");
            return Invariant($"told after {elapsed.TotalMilliseconds:0} ms");
        }
    }

    private static async Task<string> KilledServerAsync(Stage stage, Sandbox sandbox)
    {
        await sandbox.ExecAsync("echo kept > /root/kept");
        var running = sandbox.ExecAsync("echo once >> /root/runs; sleep 60");
        while ((await sandbox.ExecAsync("cat /root/runs")).ExitCode != 0)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System);
        }

        await stage.Server.KillAsync();
        try
        {
            await running;
            throw new ProofException("the running command was not interrupted");
        }
        catch (ExecInterruptedException)
        {
            var start = Stopwatch.GetTimestamp();
            await stage.Server.StartAsync(waitUntilReady: false);
            var seen = await FirstAnswerAsync(() => sandbox.ExecAsync("cat /root/kept /root/runs"));
            ProofException.Require(seen.Stdout == "kept\nonce\n", $"the sandbox is not as it was: {seen.Stdout}{seen.Stderr}");
            return Invariant($"used again {Stopwatch.GetElapsedTime(start).TotalSeconds:0.0} s after the start");
        }
    }

    private static async Task<ExecResult> FirstAnswerAsync(Func<Task<ExecResult>> exec)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        while (true)
        {
            try
            {
                return await exec();
            }
            catch (Exception e) when (e is ServerUnreachableException or SandboxUnavailableException)
            {
                // It does not listen yet, or takes over what was left.
                await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, limit.Token);
            }
        }
    }

    private static async Task<string> NothingLeftAsync(Stage stage, Sandbox sandbox)
    {
        await using var other = await stage.Server.Pandora.CreateAsync();
        await other.ExecAsync("head -c 10000000 /dev/zero > /root/file");
        var receipt = await other.EndAsync();
        ProofException.Require(receipt.Left == 0, $"left: {string.Join(", ", receipt.Resources.Where(r => !r.Gone).Select(r => $"{r.Kind} {r.Name}"))}");
        var leaked = (await Audit.FindByProductAsync(stage.Server, stage.World)).Where(r => r.GetProperty("owner").GetString() is null).ToList();
        ProofException.Require(leaked.Count == 0, $"leaked: {string.Join(", ", leaked)}");
        return $"{receipt.Resources.Count} resources undone and looked up";
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
