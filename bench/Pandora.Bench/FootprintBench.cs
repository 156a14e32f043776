using Pandora.Client;

namespace Pandora.Bench;

/// <summary>Memory and processor time of the server process.</summary>
internal static class FootprintBench
{
    public static async Task<IReadOnlyList<Result>> RunAsync(BenchServer server)
    {
        var sandboxes = new List<Sandbox>();
        for (var i = 0; i < 8; i++)
        {
            await server.WaitForWarmAsync(1);
            sandboxes.Add(await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) }));
            await sandboxes[^1].ExecAsync("true");
        }

        await server.WaitForQuietAsync(2);
        var resident = BenchServer.ResidentMiB(server.Pid);
        var before = CpuSeconds(server.Pid);
        await Task.Delay(TimeSpan.FromSeconds(20), TimeProvider.System);
        var idle = (CpuSeconds(server.Pid) - before) / 20 * 100;

        var running = sandboxes[0].ExecAsync("head -c 200000000 /dev/zero", new ExecOptions { Timeout = TimeSpan.FromSeconds(300) });
        var peak = 0.0;
        while (!running.IsCompleted)
        {
            peak = Math.Max(peak, BenchServer.ResidentMiB(server.Pid));
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System);
        }

        await running;
        foreach (var sandbox in sandboxes)
        {
            await sandbox.DisposeAsync();
        }

        return
        [
            new("server memory with 8 sandboxes (RSS)", resident, "MiB", 150),
            new("server memory while 200 MB of output pass (RSS, peak)", peak, "MiB", 200),
            new("server CPU with 8 idle sandboxes", idle, "% of a core", 1),
        ];
    }

    // Fields 14 and 15 of /proc/PID/stat (proc(5)): user and system time in ticks of a hundredth of a second.
    internal static double CpuSeconds(int pid)
    {
        var fields = File.ReadAllText($"/proc/{pid}/stat").Split(") ")[1].Split(' ');
        return (long.Parse(fields[11]) + long.Parse(fields[12])) / 100.0;
    }
}
