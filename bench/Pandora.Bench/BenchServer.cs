using System.Diagnostics;
using Pandora.Client;
using Pandora.TestHost;

namespace Pandora.Bench;

/// <summary>The real server with a new data directory and a given port.</summary>
internal sealed class BenchServer : IAsyncDisposable
{
    private readonly ProcessStartInfo _start;
    private Process _process;

    // On a tmpfs, like /run in production. On ext4 a rename waits for the disk.
    private readonly string _runRoot;

    private BenchServer(string dataDir, string runRoot, string url, ProcessStartInfo start)
    {
        DataDir = dataDir;
        _runRoot = runRoot;
        _start = start;
        _process = Process.Start(start)!;
        Url = url;
        Pandora = new PandoraClient(
            new PandoraClientOptions { Url = new Uri(url), MaxRetryTime = TimeSpan.Zero, KeepAlive = false });
    }

    public string DataDir { get; }

    public string Url { get; }

    public PandoraClient Pandora { get; }

    public int Pid => _process.Id;

    public string RunDir => Path.Combine(_runRoot, File.ReadAllText(Path.Combine(DataDir, "instance")).Trim());

    public static async Task<BenchServer> StartAsync(
        Target target, int poolSize, int port = 8123, Dictionary<string, string>? settings = null)
    {
        var url = $"http://127.0.0.1:{port}";
        var dataDir = Directory.CreateTempSubdirectory("pandora-bench-").FullName;
        var runRoot = Path.Combine("/dev/shm", Path.GetFileName(dataDir));
        var start = new ProcessStartInfo("/bin/sh");
        string[] arguments =
        [
            "-c",
            "exec \"$1\" serve > \"$2\" 2>&1 < /dev/null",
            "server",
            Path.Combine(target.Repository, "artifacts/bin/Pandora.Server/release/pandora-server"),
            Path.Combine(dataDir, "log"),
        ];
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        CallersSettings.RemoveFrom(start);
        start.Environment["PANDORA_DATA_DIR"] = dataDir;
        start.Environment["PANDORA_RUN_DIR"] = runRoot;
        start.Environment["PANDORA_TEMPLATE_DIR"] = target.Templates;
        start.Environment["PANDORA_LISTEN"] = url;
        start.Environment["PANDORA_POOL_SIZE"] = $"{poolSize}";
        foreach (var (name, value) in target.Settings.Concat(settings ?? []))
        {
            start.Environment[name] = value;
        }

        var server = new BenchServer(dataDir, runRoot, url, start);
        await server.WaitUntilReadyAsync();
        return server;
    }

    public async Task KillAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync();
    }

    /// <summary>Starts the server again on the same directories and waits until it is ready.</summary>
    public async Task StartAgainAsync()
    {
        _process.Dispose();
        _process = Process.Start(_start)!;
        await WaitUntilReadyAsync();
    }

    public async Task WaitForWarmAsync(int count)
    {
        while ((await Pandora.GetHealthAsync()).WarmMicroVms < count)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System);
        }
    }

    /// <summary>Waits until a snapshot is finished and returns its directory.</summary>
    public async Task<string> WaitForSnapshotAsync()
    {
        while (true)
        {
            var snapshots = Path.Combine(DataDir, "snapshots");
            if (
                Directory.Exists(snapshots)
                && Directory.GetDirectories(snapshots).FirstOrDefault(d => !Path.GetFileName(d).StartsWith('.')) is { } found)
            {
                return found;
            }

            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System);
        }
    }

    /// <summary>Waits until the pool is full and for two more seconds, so that no boot disturbs a measurement.</summary>
    public async Task WaitForQuietAsync(int poolSize)
    {
        await WaitForWarmAsync(poolSize);
        await Task.Delay(TimeSpan.FromSeconds(2), TimeProvider.System);
    }

    public int VmmPid(Sandbox sandbox) => int.Parse(File.ReadAllText(Path.Combine(RunDir, sandbox.Id, "vmm.pid")));

    /// <summary>Proportional memory of a process in MiB (proc(5), smaps_rollup).</summary>
    public static double PssMiB(int pid) =>
        double.Parse(
            File.ReadLines($"/proc/{pid}/smaps_rollup")
                .First(l => l.StartsWith("Pss:", StringComparison.Ordinal))
                .Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) / 1024;

    /// <summary>Resident memory of a process in MiB.</summary>
    public static double ResidentMiB(int pid) =>
        double.Parse(
            File.ReadLines($"/proc/{pid}/status")
                .First(l => l.StartsWith("VmRSS:", StringComparison.Ordinal))
                .Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) / 1024;

    public async ValueTask DisposeAsync()
    {
        Pandora.Dispose();
        using (var kill = Process.Start("kill", ["-USR2", $"{_process.Id}"]))
        {
            await kill.WaitForExitAsync();
        }

        await _process.WaitForExitAsync();
        _process.Dispose();
        Directory.Delete(DataDir, recursive: true);
        Directory.Delete(_runRoot, recursive: true);
    }

    private async Task WaitUntilReadyAsync()
    {
        using var http = new HttpClient { BaseAddress = new Uri(Url) };
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                if ((await http.GetAsync(new Uri("/ready", UriKind.Relative))).IsSuccessStatusCode)
                {
                    return;
                }
            }
            catch (HttpRequestException) when (attempt < 3000)
            {
                // The server does not listen yet.
            }

            if (_process.HasExited || attempt > 3000)
            {
                throw new InvalidOperationException(
                    $"the server did not start: {await File.ReadAllTextAsync(Path.Combine(DataDir, "log"))}");
            }

            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System);
        }
    }
}
