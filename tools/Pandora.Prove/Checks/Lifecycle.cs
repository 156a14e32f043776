using System.Diagnostics;
using System.Globalization;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.Prove.Checks;

/// <summary>What must hold when commands do not end, servers and VMMs are killed, and sandboxes end.</summary>
internal static class Lifecycle
{
    // A VMM's sockets: QMP (Firecracker: its API), the agent's and its streams', each listening and connected, and one for QEMU's signals.
    private const int MostSockets = 7;

    /// <summary>All checks of this class.</summary>
    public static IReadOnlyList<Check> All { get; } =
    [
        new("a timeout kills a command and every process that it started", TimeoutAsync),
        new("kill -9 of a VMM ends its sandbox at once, and the next claim works", KilledVmmAsync),
        new("kill -9 of the server: sandboxes live, a running command is not repeated", KilledServerAsync),
        new("a dead guest delays no other sandbox at a restart", DeadGuestAsync),
        new("a VMM has only files of its own microVM and template open", OwnFilesAsync),
        new("a server on a copied data directory is refused", CopyAsync),
        new("a sandbox's end leaves nothing", NothingLeftAsync),
    ];

    private static async Task<string> TimeoutAsync(Stage stage, Sandbox sandbox)
    {
        var start = Stopwatch.GetTimestamp();
        try
        {
            await sandbox.ExecAsync("setsid sleep 4321 & sleep 4321", new ExecOptions { Timeout = TimeSpan.FromSeconds(1) });
            throw new TestHostException("the command did not time out");
        }
        catch (ExecTimeoutException e)
        {
            TestHostException.Require(e.Command == CommandStates.Killed, e.Message);
            var elapsed = Stopwatch.GetElapsedTime(start);
            var left = await sandbox.ExecAsync("pgrep -fc '^sleep 4321'");
            TestHostException.Require(left.Stdout.Trim() == "0", $"{left.Stdout.Trim()} of its processes remain");
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
            throw new TestHostException("the command did not end");
        }
        catch (SandboxGoneException)
        {
            var elapsed = Stopwatch.GetElapsedTime(start);
            TestHostException.Require(
                elapsed < TimeSpan.FromSeconds(20), Invariant($"the client was answered after {elapsed.TotalSeconds:0.0} s"));
            await using var next = await stage.Server.Pandora.CreateAsync();
            TestHostException.Require((await next.ExecAsync("true")).ExitCode == 0, "the next sandbox does not work");
            return Invariant($"answered after {elapsed.TotalMilliseconds:0} ms");
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
            throw new TestHostException("the running command was not interrupted");
        }
        catch (ExecInterruptedException)
        {
            var start = Stopwatch.GetTimestamp();
            await stage.Server.StartAsync(waitUntilReady: false);
            var seen = await FirstAnswerAsync(() => sandbox.ExecAsync("cat /root/kept /root/runs"));
            TestHostException.Require(seen.Stdout == "kept\nonce\n", $"the sandbox changed: {seen.Stdout}{seen.Stderr}");
            return Invariant($"works again {Stopwatch.GetElapsedTime(start).TotalSeconds:0.0} s after the start");
        }
    }

    private static async Task<ExecResult> FirstAnswerAsync(Func<Task<ExecResult>> exec)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(120), TimeProvider.System);
        while (true)
        {
            try
            {
                return await exec();
            }
            catch (Exception e) when (e is ServerUnreachableException or SandboxUnavailableException)
            {
                // The server does not listen yet, or has not adopted the sandbox yet.
                await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, limit.Token);
            }
        }
    }

    private static async Task<string> DeadGuestAsync(Stage stage, Sandbox sandbox)
    {
        var dead = await stage.Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        await stage.Server.KillAsync();
        using (var vmm = ProcessHandle.TryOpen(stage.Server.VmmPidOf(dead.Id)))
        {
            // SIGSTOP: the VMM lives and answers nothing.
            vmm!.Kill(19);
        }

        var start = Stopwatch.GetTimestamp();
        await stage.Server.StartAsync(waitUntilReady: false);
        await FirstAnswerAsync(() => sandbox.ExecAsync("true"));
        var elapsed = Stopwatch.GetElapsedTime(start);
        var states = await stage.Server.Pandora.ListAsync();
        TestHostException.Require(
            states.Any(s => s.Id == dead.Id && s.State == "recovering"),
            Invariant($"the healthy sandbox waited {elapsed.TotalSeconds:0.0} s, until the dead one was given up"));
        while (true)
        {
            try
            {
                await dead.ExecAsync("true");
                throw new TestHostException("a command succeeded in a guest that is stopped");
            }
            catch (SandboxUnavailableException)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
            }
            catch (SandboxGoneException)
            {
                await stage.Server.WaitUntilReadyAsync();
                return Invariant($"served {elapsed.TotalSeconds:0.0} s after the start, while the dead one was recovering");
            }
        }
    }

    private static Task<string> OwnFilesAsync(Stage stage, Sandbox sandbox)
    {
        var server = stage.Server;
        var open = LinksOf(server.VmmPidOf(sandbox.Id));
        var files = open.Where(l => l.StartsWith('/') && !l.StartsWith("/dev/", StringComparison.Ordinal)).ToList();
        var sockets = open.Where(l => l.StartsWith("socket:", StringComparison.Ordinal)).ToList();
        var foreignFiles = files.Where(f => !f.Contains(sandbox.Id, StringComparison.Ordinal)
            && !f.StartsWith(server.TemplateDir, StringComparison.Ordinal) && !f.StartsWith("/memfd:", StringComparison.Ordinal)
            && !f.Contains("/snapshots/", StringComparison.Ordinal));
        // A VMM makes no pipes. None of its sockets has the inode of a socket of the server: connected peers have different inodes.
        List<string> foreign =
        [
            .. foreignFiles, .. open.Where(l => l.StartsWith("pipe:", StringComparison.Ordinal)), .. sockets.Intersect(LinksOf(server.Pid)),
        ];
        TestHostException.Require(foreign.Count == 0, $"the VMM has open: {string.Join(", ", foreign)}");
        TestHostException.Require(sockets.Count <= MostSockets, $"the VMM has {sockets.Count} sockets open, more than {MostSockets}");
        return Task.FromResult($"{files.Count} files and {sockets.Count} sockets, of the microVM or its template");
    }

    private static List<string> LinksOf(int pid) =>
        [.. Directory.GetFileSystemEntries($"/proc/{pid}/fd").Select(f => new FileInfo(f).LinkTarget ?? "")];

    private static async Task<string> CopyAsync(Stage stage, Sandbox sandbox)
    {
        var copy = Directory.CreateTempSubdirectory("pandora-copy-").FullName;
        try
        {
            File.Copy(Path.Combine(stage.Server.DataDir, "instance"), Path.Combine(copy, "instance"));
            await using var second = await ServerProcess.StartAsync(stage.World, new() { ["PANDORA_LISTEN"] = "http://127.0.0.1:8001" },
                copy, waitUntilReady: false);
            second.SkipAudit();
            var isRefused = await second.WaitForEndAsync() == 1
                && second.Log.Contains("is a copy of that server's", StringComparison.Ordinal);
            TestHostException.Require(isRefused, $"the second server was not refused: {second.Log}");
        }
        finally
        {
            Directory.Delete(copy, recursive: true);
        }

        TestHostException.Require((await sandbox.ExecAsync("true")).ExitCode == 0, "the first server's sandbox does not work any more");
        return "refused";
    }

    private static async Task<string> NothingLeftAsync(Stage stage, Sandbox sandbox)
    {
        await using var other = await stage.Server.Pandora.CreateAsync();
        await other.ExecAsync("head -c 10000000 /dev/zero > /root/file");
        var receipt = await other.EndAsync();
        TestHostException.Require(
            receipt.Remaining == 0,
            $"remaining: {string.Join(", ", receipt.Resources.Where(r => !r.IsGone).Select(r => $"{r.Kind} {r.Name}"))}");
        var leaked = (await Audit.FindByProductAsync(stage.Server, stage.World))
            .Where(r => r.GetProperty("owner").GetString() is null)
            .ToList();
        TestHostException.Require(leaked.Count == 0, $"leaked: {string.Join(", ", leaked)}");
        return $"{receipt.Resources.Count} resources cleaned up and checked";
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
