using System.Diagnostics;
using System.Net;
using Pandora.Client;
using Pandora.Linux;

namespace Pandora.TestHost;

/// <summary>The real server as a process of its own, in a namespace of the test world, on a data directory of its own.</summary>
internal sealed class ServerProcess : IAsyncDisposable
{
    private static readonly string Binary = Path.Combine(Repository.Root, "artifacts/bin/Pandora.Server/release/pandora-server");
    // Nothing waits for long where things go well, and a host may emulate.
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(4);
    private readonly TestWorld _world;
    private readonly Dictionary<string, string> _settings;
    private readonly string _preamble;
    private readonly bool _ownsDirectory;
    private Process? _process;
    private bool _isForgotten;
    private int _logBegin;

    private ServerProcess(TestWorld world, Dictionary<string, string> settings, string? directory, string preamble)
    {
        _world = world;
        _settings = settings;
        _preamble = preamble;
        _ownsDirectory = directory is null;
        DataDir = directory ?? Directory.CreateTempSubdirectory("pandora-host-").FullName;
        Http = world.Host.CreateHttpClient("http://127.0.0.1:8000");
        Http.Timeout = Timeout.InfiniteTimeSpan;
        Pandora = new PandoraClient(Http);
    }

    /// <summary>
    /// Where there is a snapshot, and the key that it knows, which servers of the default template on new data directories begin with; null
    /// for none.
    /// </summary>
    public static string? Seed { get; set; }

    public string DataDir { get; }

    public string TemplateDir => _settings.GetValueOrDefault("PANDORA_TEMPLATE_DIR") ?? Repository.Templates;

    public string RunDir => Path.Combine(DataDir, "run");

    public string LogPath => Path.Combine(DataDir, "log");

    public string Log => File.Exists(LogPath) ? File.ReadAllText(LogPath) : "";

    /// <summary>What it has written since it was started last.</summary>
    public string LogSinceStart => Log[_logBegin..];

    public string Instance => File.ReadAllText(Path.Combine(DataDir, "instance")).Trim();

    public HttpClient Http { get; }

    public PandoraClient Pandora { get; }

    /// <summary>Whether a resource may be undone late, because the test takes away what undoing needs.</summary>
    public bool MayLeave { get; set; }

    public int Pid => _process!.Id;

    public bool HasExited => _process!.HasExited;

    /// <summary>The VMM of a sandbox.</summary>
    public int VmmPidOf(string id) => int.Parse(File.ReadAllText(Path.Combine(RunDir, Instance, id, "vmm.pid")));

    /// <summary>Whether a sandbox's microVM was restored from a snapshot, and not booted.</summary>
    public bool IsRestored(string id) => Log.Split('\n')
        .Any(l => l.Contains($"microVM {id} ", StringComparison.Ordinal) && l.EndsWith("(snapshot)", StringComparison.Ordinal));

    /// <summary>Starts one.</summary>
    /// <param name="world">Where.</param>
    /// <param name="settings">Its environment variables.</param>
    /// <param name="directory">Its data directory; null for one of its own that goes with it.</param>
    /// <param name="waitUntilReady">Whether to return only when a sandbox can be claimed.</param>
    /// <param name="preamble">Shell text that is run before the server takes the shell's place: opens descriptors, sets limits.</param>
    public static async Task<ServerProcess> StartAsync(TestWorld world, Dictionary<string, string>? settings = null,
        string? directory = null, bool waitUntilReady = true, string preamble = "")
    {
        var server = new ServerProcess(world, settings ?? [], directory, preamble);
        try
        {
            if (
                Seed is not null
                && directory is null
                && settings?.GetValueOrDefault("PANDORA_POOL_START") != "boot"
                && settings?.ContainsKey("PANDORA_TEMPLATE_DIR") != true)
            {
                await CopySeedAsync(Seed, server.DataDir);
            }

            await server.StartAsync(waitUntilReady);
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>Copies what <see cref="Seed"/> holds from one directory to another.</summary>
    public static Task CopySeedAsync(string from, string to) =>
        Command.RunAsync(
            "cp", ["-a", "--reflink=auto", "--sparse=always", Path.Combine(from, "keys"), Path.Combine(from, "snapshots"), to]);

    /// <summary>Starts it, again if need be, on the same directory.</summary>
    public async Task StartAsync(bool waitUntilReady = true)
    {
        var resolvConf = Path.Combine(DataDir, "resolv.conf");
        if (!File.Exists(resolvConf))
        {
            await File.WriteAllTextAsync(resolvConf, $"nameserver {TestWorld.ResolverAddress}\n");
        }

        var start = new ProcessStartInfo("/bin/sh");
        foreach (
            var argument in new[]
            {
                "-c",
                $"{_preamble} exec nsenter --net=\"$1\" \"$2\" serve >> \"$3\" 2>&1 < /dev/null",
                "server",
                _world.Host.Path,
                Binary,
                LogPath,
            })
        {
            start.ArgumentList.Add(argument);
        }

        CallersSettings.RemoveFrom(start);
        start.Environment["PANDORA_DATA_DIR"] = DataDir;
        start.Environment["PANDORA_RUN_DIR"] = RunDir;
        start.Environment["PANDORA_TEMPLATE_DIR"] = TemplateDir;
        start.Environment["PANDORA_RESOLV_CONF"] = resolvConf;
        foreach (var (name, value) in TestVmm.Settings.Concat(_settings))
        {
            start.Environment[name] = value;
        }

        _logBegin = Log.Length;
        _process = Process.Start(start)!;
        if (waitUntilReady)
        {
            await WaitUntilReadyAsync();
        }
    }

    public async Task WaitUntilReadyAsync()
    {
        using var limit = new CancellationTokenSource(Patience, TimeProvider.System);
        while (true)
        {
            TestHostException.Require(!_process!.HasExited, $"the server ended:\n{Log}");
            try
            {
                using var response = await Http.GetAsync(new Uri("/ready", UriKind.Relative), limit.Token);
                // A claim is served before all that an earlier server left is decided; most tests want it to be.
                if (response.StatusCode == HttpStatusCode.OK && (await Pandora.GetHealthAsync(limit.Token)).Status != "recovering")
                {
                    return;
                }
            }
            catch (HttpRequestException)
            {
                // It does not listen yet.
            }

            TestHostException.Require(!limit.IsCancellationRequested, $"the server was not ready in time:\n{Log}");
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System);
        }
    }

    public async Task WaitForWarmAsync(int count)
    {
        using var limit = new CancellationTokenSource(Patience, TimeProvider.System);
        while ((await Pandora.GetHealthAsync(limit.Token)).WarmVms < count)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, limit.Token);
        }
    }

    /// <summary>Waits until microVMs of the default template are restored and no longer booted.</summary>
    public async Task WaitForSnapshotAsync()
    {
        using var limit = new CancellationTokenSource(Patience, TimeProvider.System);
        while (Snapshots.Count == 0)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, limit.Token);
        }
    }

    /// <summary>Directories of the snapshots that are finished.</summary>
    public IReadOnlyList<string> Snapshots => Directory.Exists(Path.Combine(DataDir, "snapshots"))
        ? [.. Directory.GetDirectories(Path.Combine(DataDir, "snapshots")).Where(d => !Path.GetFileName(d).StartsWith('.'))] : [];

    /// <summary>Changes a setting for the next start.</summary>
    public void Set(string variable, string value) => _settings[variable] = value;

    /// <summary>Stops it as './pandora down' does (SIGUSR2) and waits; the exit code.</summary>
    public async Task<int> StopAsync()
    {
        Signal(12);
        await _process!.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(30));
        return _process.ExitCode;
    }

    /// <summary>Waits for a server that is expected to end by itself; its exit code.</summary>
    public async Task<int> WaitForEndAsync()
    {
        await _process!.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(30));
        return _process.ExitCode;
    }

    /// <summary>Leaves the directory's audit to another server that runs on it.</summary>
    public void Forget() => _isForgotten = true;

    public async Task KillAsync()
    {
        Signal(9);
        await _process!.WaitForExitAsync();
    }

    public void Signal(int signal)
    {
        using var handle = ProcessHandle.TryOpen(_process!.Id);
        handle?.Kill(signal);
    }

    public async ValueTask DisposeAsync()
    {
        try
        {
            if (_process is { HasExited: false })
            {
                await StopAsync();
            }

            if (!_isForgotten && _process is not null && File.Exists(Path.Combine(DataDir, "instance")))
            {
                try
                {
                    await Audit.AssertNothingLeftAsync(this, _world);
                    // Swept up at the end, it would not be seen above.
                    TestHostException.Require(
                        MayLeave || !Log.Contains("could not be undone", StringComparison.Ordinal),
                        $"something could not be undone while the server ran:\n{Log}");
                }
                catch (TestHostException)
                {
                    // It has failed, and is to leave the machine clean all the same.
                    await Audit.EndLeftAsync(this, _world);
                    throw;
                }
            }
        }
        finally
        {
            Http.Dispose();
            Pandora.Dispose();
            _process?.Dispose();
            if (File.Exists(Path.Combine(DataDir, "instance")))
            {
                // A server that was killed, or refused to start, leaves it to the next one on its directory.
                Audit.RemoveLock(Instance);
            }

            if (_ownsDirectory)
            {
                Directory.Delete(DataDir, recursive: true);
            }
        }
    }
}
