using System.Diagnostics;
using System.Net;
using Pandora.Client;
using Pandora.Linux;

namespace Pandora.TestHost;

/// <summary>The real server, as a process in a namespace of the test world, with a data directory of its own or a given one.</summary>
internal sealed class ServerProcess : IAsyncDisposable
{
    private static readonly string Binary = Path.Combine(Repository.Root, "artifacts/bin/Pandora.Server/release/pandora-server");
    // Long enough for hosts that emulate the processor; waits are short where nothing fails.
    private static readonly TimeSpan LongestWait = TimeSpan.FromMinutes(4), LongestStop = TimeSpan.FromMinutes(2);
    private readonly TestWorld _world;
    private readonly Dictionary<string, string> _settings;
    private readonly string _preamble;
    private readonly bool _ownsDirectory;
    private Process? _process;
    private bool _skipsAudit;
    private int _logBegin;

    private ServerProcess(TestWorld world, Dictionary<string, string> settings, string? directory, string preamble)
    {
        _world = world;
        _settings = settings;
        _preamble = preamble;
        _ownsDirectory = directory is null;
        DataDir = directory ?? Directory.CreateTempSubdirectory("pandora-host-").FullName;
        Http = world.Host.CreateHttpClient(AddressOf(settings), settings.GetValueOrDefault("PANDORA_TLS_CERTIFICATE"));
        Http.Timeout = Timeout.InfiniteTimeSpan;
        if (_settings.GetValueOrDefault("PANDORA_API_KEYS") is { Length: > 0 } keys)
        {
            Http.DefaultRequestHeaders.Authorization = new("Bearer", keys.Split(',')[0]);
        }

        // As the server answers: a test sees each refusal, and each idle sandbox ends.
        Pandora = new PandoraClient(Http, new PandoraClientOptions { MaxRetryTime = TimeSpan.Zero, KeepAlive = false });
    }

    /// <summary>
    /// A directory with a snapshot of the default template and the key that it accepts. A server on a new data directory begins with a
    /// copy; null for none.
    /// </summary>
    public static string? Seed { get; set; }

    public string DataDir { get; }

    public string TemplateDir => _settings.GetValueOrDefault("PANDORA_TEMPLATE_DIR") ?? Repository.Templates;

    public string RunDir => Path.Combine(DataDir, "run");

    public string LogPath => Path.Combine(DataDir, "log");

    public string Log => File.Exists(LogPath) ? File.ReadAllText(LogPath) : "";

    /// <summary>The log since the last start.</summary>
    public string LogSinceStart => Log[_logBegin..];

    public string Instance => File.ReadAllText(Path.Combine(DataDir, "instance")).Trim();

    public HttpClient Http { get; }

    public PandoraClient Pandora { get; }

    /// <summary>
    /// Whether a cleanup may fail while the server runs, because the test takes away the descriptors that a cleanup needs.
    /// </summary>
    public bool AllowsFailedCleanup { get; set; }

    public int Pid => _process!.Id;

    public bool HasExited => _process!.HasExited;

    /// <summary>The process id of a sandbox's VMM.</summary>
    public int VmmPidOf(string id) => int.Parse(File.ReadAllText(Path.Combine(RunDir, Instance, id, "vmm.pid")));

    /// <summary>Whether a sandbox's microVM was restored from a snapshot, by the server's log.</summary>
    public bool IsRestored(string id) => Log.Split('\n')
        .Any(l => l.Contains($"microVM {id} ", StringComparison.Ordinal) && l.EndsWith("(snapshot)", StringComparison.Ordinal));

    /// <summary>Starts a server in the host's namespace of a world.</summary>
    /// <param name="world">The world.</param>
    /// <param name="settings">The server's environment variables.</param>
    /// <param name="directory">The data directory; null for a new one, which is deleted when the server is disposed.</param>
    /// <param name="waitUntilReady">Whether to return only when a sandbox can be claimed.</param>
    /// <param name="preamble">Shell commands that run before the shell becomes the server: to open descriptors or set limits.</param>
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

    /// <summary>Copies the keys and snapshots of a seed (<see cref="Seed"/>) from one directory to another.</summary>
    public static Task CopySeedAsync(string from, string to) =>
        Command.RunAsync(
            "cp", ["-a", "--reflink=auto", "--sparse=always", Path.Combine(from, "keys"), Path.Combine(from, "snapshots"), to]);

    /// <summary>Starts the server, for the first time or again, on the same directory.</summary>
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
        using var limit = new CancellationTokenSource(LongestWait, TimeProvider.System);
        while (true)
        {
            TestHostException.Require(!_process!.HasExited, $"the server ended:\n{Log}");
            try
            {
                using var response = await Http.GetAsync(new Uri("/ready", UriKind.Relative), limit.Token);
                // The server is ready before it has recovered every microVM of its predecessor. Most tests need the recovery finished.
                if (response.StatusCode == HttpStatusCode.OK && (await Pandora.GetHealthAsync(limit.Token)).Status != "recovering")
                {
                    return;
                }
            }
            catch (Exception e) when (e is HttpRequestException or PandoraClientException)
            {
                // The server does not listen yet.
            }

            TestHostException.Require(!limit.IsCancellationRequested, $"the server was not ready in time:\n{Log}");
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System);
        }
    }

    public async Task WaitForWarmAsync(int count)
    {
        using var limit = new CancellationTokenSource(LongestWait, TimeProvider.System);
        while ((await Pandora.GetHealthAsync(limit.Token)).WarmMicroVms < count)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, limit.Token);
        }
    }

    /// <summary>Waits until a snapshot is finished, so that microVMs of the default template are restored and no longer booted.</summary>
    public async Task WaitForSnapshotAsync()
    {
        using var limit = new CancellationTokenSource(LongestWait, TimeProvider.System);
        while (Snapshots.Count == 0)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, limit.Token);
        }
    }

    /// <summary>Directories of the finished snapshots.</summary>
    public IReadOnlyList<string> Snapshots => Directory.Exists(Path.Combine(DataDir, "snapshots"))
        ? [.. Directory.GetDirectories(Path.Combine(DataDir, "snapshots")).Where(d => !Path.GetFileName(d).StartsWith('.'))] : [];

    /// <summary>Changes a setting for the next start.</summary>
    public void Set(string variable, string value) => _settings[variable] = value;

    /// <summary>Stops the server as './pandora down' does (SIGUSR2), waits and returns the exit code.</summary>
    public async Task<int> StopAsync()
    {
        Signal(12);
        await _process!.WaitForExitAsync().WaitAsync(LongestStop);
        return _process.ExitCode;
    }

    /// <summary>Waits for a server that is expected to end by itself and returns the exit code.</summary>
    public async Task<int> WaitForEndAsync()
    {
        await _process!.WaitForExitAsync().WaitAsync(LongestStop);
        return _process.ExitCode;
    }

    /// <summary>Turns off the audit at the end, because another server that runs still has resources on the host.</summary>
    public void SkipAudit() => _skipsAudit = true;

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

    // A certificate is for names, and not for an address.
    private static string AddressOf(Dictionary<string, string> settings) =>
        settings.GetValueOrDefault("PANDORA_LISTEN") is { } listen && listen.StartsWith("https:", StringComparison.Ordinal)
            ? $"https://localhost:{new Uri(listen).Port}"
            : "http://127.0.0.1:8000";

    public async ValueTask DisposeAsync()
    {
        try
        {
            var hasEnded = _process is { HasExited: true };
            if (_process is { HasExited: false })
            {
                await StopAsync();
            }

            if (!_skipsAudit && _process is not null && File.Exists(Path.Combine(DataDir, "instance")))
            {
                try
                {
                    await Audit.AssertNothingRemainsAsync(this, _world);
                    // The scan above misses a cleanup that failed and was repeated later. The log shows it.
                    TestHostException.Require(
                        AllowsFailedCleanup || !Log.Contains("could not be undone", StringComparison.Ordinal),
                        $"a cleanup failed while the server ran:\n{Log}");
                }
                catch (TestHostException e)
                {
                    // The test failed, and must still leave the machine clean.
                    await Audit.CleanUpAfterAsync(this, _world);
                    if (hasEnded)
                    {
                        var end = Log[^Math.Min(Log.Length, 8000)..];
                        throw new TestHostException($"the server had ended before, with exit code {_process.ExitCode}: {e.Message}\n{end}");
                    }

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
                // A server that was killed, or refused to start, does not remove its lock file.
                Audit.RemoveLock(Instance);
            }

            if (_ownsDirectory)
            {
                Directory.Delete(DataDir, recursive: true);
            }
        }
    }
}
