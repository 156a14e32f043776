using Pandora.Client;
using System.Diagnostics;
using Pandora.Load;
using Pandora.Linux;
using Renci.SshNet;

namespace Pandora.Bench;

/// <summary>
/// The command <c>true</c> on one microVM: by the API, by OpenSSH's multiplexed connection, and bare over SSH.NET,
/// alternately.
/// </summary>
internal static class ExecBench
{
    private const int Rounds = 100;

    public static async Task<IReadOnlyList<Result>> RunAsync(BenchServer server)
    {
        await server.WaitForQuietAsync(2);
        await using var sandbox = await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) });
        await server.WaitForQuietAsync(2);
        var key = Path.Combine(server.DataDir, "keys/pandora");
        var control = Path.Combine(server.DataDir, "control");
        string[] options =
        [
            "-i",
            key,
            "-S",
            control,
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
            "-o",
            "ControlPersist=no",
            $"root@{sandbox.Wire!.GuestIp}",
        ];
        // Commands go by the agent; the SSH server is for what they are compared with.
        await sandbox.ExecAsync("dropbear -E -s -j -k -r /etc/pandora/host_key -p 172.16.0.2:22");
        await Command.RunAsync("sh", ["-c", "exec ssh -M -N -f \"$@\" > /dev/null 2>&1", "ssh", .. options]);
        using var bare = new SshClient(sandbox.Wire!.GuestIp, "root", new PrivateKeyFile(key));
        await bare.ConnectAsync(CancellationToken.None);
        Latencies api = new(), http = new(), openSsh = new(), bareTrue = new();
        for (var i = -40; i < Rounds; i++)
        {
            var start = Stopwatch.GetTimestamp();
            var result = await sandbox.ExecAsync("true");
            var total = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
            // The command's shell ends after the answer. Wait, so that this does not slow down the next measurement.
            await Task.Delay(TimeSpan.FromMilliseconds(60), TimeProvider.System);

            start = Stopwatch.GetTimestamp();
            using (
                var ssh = Process.Start(
                    new ProcessStartInfo("ssh", ["-n", .. options, "true"]) { RedirectStandardOutput = true, RedirectStandardError = true }
                )!)
            {
                await ssh.WaitForExitAsync();
            }

            var viaOpenSsh = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
            await Task.Delay(TimeSpan.FromMilliseconds(60), TimeProvider.System);

            start = Stopwatch.GetTimestamp();
            using (var command = bare.CreateCommand("true"))
            {
                await command.ExecuteAsync();
            }

            var viaBare = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
            await Task.Delay(TimeSpan.FromMilliseconds(60), TimeProvider.System);
            if (i >= 0)
            {
                api.AddMs(result.Duration.TotalMilliseconds);
                http.AddMs(total - result.Duration.TotalMilliseconds);
                openSsh.AddMs(viaOpenSsh);
                bareTrue.AddMs(viaBare);
            }
        }

        await Command.RunAsync("ssh", ["-O", "exit", .. options]);
        var p50 = api.Percentile(50);
        return
        [
            new(
                "exec `true` p50 / `true` over OpenSSH ControlMaster",
                p50 / openSsh.Percentile(50),
                "×",
                0.9,
                $"{p50:0.0} ms / {openSsh.Percentile(50):0.0} ms"),
            new(
                "exec `true` p50 / bare `true` over SSH.NET",
                p50 / bareTrue.Percentile(50),
                "×",
                0.6,
                $"{p50:0.0} ms / {bareTrue.Percentile(50):0.0} ms"),
            new("HTTP request minus guest time, p50", http.Percentile(50), "ms", 1),
        ];
    }

    /// <summary>The growth of a VMM's memory while 200 commands run in its guest.</summary>
    public static async Task<Result> GrowthAsync(BenchServer server)
    {
        await using var sandbox = await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) });
        await server.WaitForQuietAsync(2);
        await sandbox.ExecAsync("true");
        var before = BenchServer.PssMiB(server.VmmPid(sandbox));
        for (var i = 0; i < 200; i++)
        {
            await sandbox.ExecAsync("bash -c true");
        }

        var after = BenchServer.PssMiB(server.VmmPid(sandbox));
        return new Result("growth of a VMM over 200 execs (PSS)", after - before, "MiB", 64, $"{before:0} MiB to {after:0} MiB");
    }
}
