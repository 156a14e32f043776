using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Pandora.Client;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests.Chaos;

/// <summary>One kind of fault.</summary>
/// <param name="Name">What happens.</param>
/// <param name="RunAsync">Makes it happen, and ends it where it can be ended.</param>
internal sealed record Fault(string Name, Func<Task> RunAsync);

/// <summary>Faults of a server, its VMMs, its guests and its host, in random order.</summary>
internal sealed class Faults(ServerProcess server, TestWorld world, string dataDirectory, Random random)
{
    private static readonly TimeSpan Moment = TimeSpan.FromSeconds(3);

    /// <summary>The time stamp of the last fault of each name.</summary>
    public ConcurrentDictionary<string, long> LastDone { get; } = new();

    /// <summary>How often each fault was made.</summary>
    public ConcurrentDictionary<string, int> Done { get; } = new();

    /// <summary>All faults.</summary>
    public IReadOnlyList<Fault> All =>
    [
        new("server killed", () => RestartAsync(() => server.KillAsync())),
        new(
            "server restarted",
            () =>
                RestartAsync(async () =>
                {
                    server.Signal(10); // SIGUSR1: as './pandora restart'
                    await server.WaitForEndAsync();
                })),
        new("VMM killed", () => WithVmmAsync(p => p.Kill())),
        new(
            "VMM stopped for a while",
            () =>
                WithVmmAsync(async p =>
                {
                    p.Kill(19); // SIGSTOP
                    await Pause();
                    p.Kill(18); // SIGCONT
                })),
        new("guest rebooted itself", () => InGuestAsync("/usr/lib/pandora/busybox reboot -f")),
        new("agent killed", () => InGuestAsync("kill -9 $PPID")),
        new(
            "guest's network down for a while",
            async () =>
            {
                var namespaces = Directory.GetFiles("/run/netns", $"pnd-{server.Instance}-*");
                if (namespaces.Length > 0)
                {
                    var name = Path.GetFileName(namespaces[random.Next(namespaces.Length)]);
                    await TryAsync(() => Command.RunAsync("ip", ["-n", name, "link", "set", "tap0", "down"]));
                    await Pause();
                    await TryAsync(() => Command.RunAsync("ip", ["-n", name, "link", "set", "tap0", "up"]));
                }
            }),
        new(
            "data disk full for a while",
            async () =>
            {
                var filler = Path.Combine(dataDirectory, "filler");
                await TryAsync(() => Command.RunAsync("sh", ["-c", "head -c 4G /dev/zero > \"$1\"", "fill", filler]));
                await Pause();
                File.Delete(filler);
            }),
        new(
            "descriptors run out for a while",
            async () =>
            {
                // No other fault makes a cleanup fail.
                server.AllowsFailedCleanup = true;
                var limit = Directory.GetFiles($"/proc/{server.Pid}/fd").Length + 3;
                // proc(5): the soft limit is in the fourth column of 'limits'.
                var before = File.ReadLines($"/proc/{server.Pid}/limits")
                    .First(l => l.StartsWith("Max open files", StringComparison.Ordinal))
                    .Split(' ', StringSplitOptions.RemoveEmptyEntries)[3];
                await TryAsync(() => Command.RunAsync("prlimit", [$"--pid={server.Pid}", $"--nofile={limit}:"]));
                await Pause();
                await TryAsync(() => Command.RunAsync("prlimit", [$"--pid={server.Pid}", $"--nofile={before}:"]));
            }),
        new("tables flushed", () => TryAsync(() => TestWorld.NftAsync(world.Host.Path, "flush ruleset"))),
        new(
            "a slot's rules flushed",
            async () =>
            {
                var namespaces = Directory.GetFiles("/run/netns", $"pnd-{server.Instance}-*");
                if (namespaces.Length > 0)
                {
                    await TryAsync(() => TestWorld.NftAsync(namespaces[random.Next(namespaces.Length)], "flush ruleset"));
                }
            }),
        new(
            "forwarding turned off",
            () =>
                TryAsync(() =>
                    Command.RunAsync(
                        "nsenter",
                        [$"--net={world.Host.Path}", "sh", "-c", "for f in /proc/sys/net/ipv4/conf/*/forwarding; do echo 0 > $f; done"])
                )),
        new(
            "connections driven to their bound",
            () =>
                InGuestAsync(
                    $"""
                    ulimit -n 4096; timeout 4 python3 -c "
                    import socket
                    held = []
                    while True:
                        s = socket.socket(); s.settimeout(1)
                        try: s.connect(('{TestWorld.InternetAddress}', 7000)); held.append(s)
                        except OSError: s.close()
                    " &
                    """)),
        new(
            "descriptors taken by clients",
            async () =>
            {
                var silent = world.Host.Run(() =>
                    Enumerable
                        .Range(0, 600)
                        .Select(_ => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp))
                        .ToList());
                foreach (var socket in silent)
                {
                    TrySocket(() => socket.Connect(IPAddress.Loopback, 8000));
                }

            await Pause();
            silent.ForEach(s => s.Dispose());
        }),
        new("disk filled by a guest", () => InGuestAsync("head -c 700000000 /dev/zero > /root/big 2> /dev/null &")),
        new("guest halted", () => InGuestAsync("/usr/lib/pandora/busybox halt -f")),
        new("record damaged", () => InDirectoryAsync(d => File.WriteAllText(Path.Combine(d, "record.json"), "{\"version\":2,"))),
        new("snapshot damaged", () =>
        {
            foreach (var path in server.Snapshots)
            {
                TryIo(() =>
                {
                    // Overwrite a page in the middle, or cut off the second half.
                    using var file = File.OpenWrite(Path.Combine(path, random.Next(2) == 0 ? "memory" : "state"));
                    if (random.Next(2) == 0)
                    {
                        file.SetLength(file.Length / 2);
                    }
                    else
                    {
                        file.Position = file.Length / 2;
                        file.Write(new byte[4096]);
                    }
                });
            }

            return Task.CompletedTask;
        }),
        new("control socket removed", () => InDirectoryAsync(d => Directory.GetFiles(d, "*.sock").ToList().ForEach(File.Delete))),
    ];

    /// <summary>Makes a fault happen.</summary>
    public async Task DoAsync(Fault fault)
    {
        // Set at the start too: the fault explains answers that come while it lasts.
        LastDone[fault.Name] = TimeProvider.System.GetTimestamp();
        try
        {
            await fault.RunAsync();
        }
        catch (DirectoryNotFoundException) when (server.HasExited)
        {
            // The server ended, and its /proc directory with it.
        }

        Done.AddOrUpdate(fault.Name, 1, (_, n) => n + 1);
        LastDone[fault.Name] = TimeProvider.System.GetTimestamp();
    }

    /// <summary>Whether one of these faults happened within a time.</summary>
    public bool WasDone(TimeSpan within, params string[] names) =>
        names.Any(n => LastDone.TryGetValue(n, out var at) && TimeProvider.System.GetElapsedTime(at) < within);

    /// <summary>
    /// Starts the server again if it ended by itself, as a service manager does. A server may end by itself only without free descriptors,
    /// in two cases: the .NET runtime gives up and says so, or a starting server can neither adopt nor clean up a microVM and stops, so
    /// that the next one can.
    /// </summary>
    /// <exception cref="InvalidOperationException">The server ended for another reason.</exception>
    public async Task ReviveAsync()
    {
        if (!server.HasExited)
        {
            return;
        }

        var log = server.LogSinceStart;
        var couldNotStart =
            log.Contains("could not be recovered; the server stops", StringComparison.Ordinal)
            && log.Contains("Too many open files", StringComparison.Ordinal);
        if (!server.AllowsFailedCleanup || !(couldNotStart || log.Split('\n').Contains("Out of memory.")))
        {
            throw new InvalidOperationException("the server ended by itself");
        }

        await server.StartAsync(waitUntilReady: false);
        Done.AddOrUpdate("(gave up without descriptors)", 1, (_, n) => n + 1);
        LastDone["(gave up without descriptors)"] = TimeProvider.System.GetTimestamp();
    }

    private static Task Pause() => Task.Delay(Moment, TimeProvider.System);

    private async Task RestartAsync(Func<Task> end)
    {
        await end();
        await server.StartAsync(waitUntilReady: false);
    }

    private async Task WithVmmAsync(Func<ProcessHandle, Task> action)
    {
        var pids = Audit.Processes(server);
        using var process = pids.Count == 0 ? null : ProcessHandle.TryOpen(int.Parse(pids[random.Next(pids.Count)]));
        if (process is not null)
        {
            await action(process);
        }
    }

    private Task WithVmmAsync(Action<ProcessHandle> action) => WithVmmAsync(p =>
    {
        action(p);
        return Task.CompletedTask;
    });

    private async Task InGuestAsync(string code)
    {
        try
        {
            var sandboxes = await server.Pandora.ListAsync();
            if (sandboxes.Count > 0)
            {
                using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(5), TimeProvider.System);
                await server.Pandora.Connect(sandboxes[random.Next(sandboxes.Count)].Id).ExecAsync(code, cancellationToken: limit.Token);
            }
        }
        catch (Exception e) when (e is PandoraClientException or OperationCanceledException)
        {
            // The command is expected to fail.
        }
    }

    private Task InDirectoryAsync(Action<string> action)
    {
        var directories = Directory.GetDirectories(Path.Combine(server.RunDir, server.Instance));
        TryIo(() =>
        {
            if (directories.Length > 0)
            {
                action(directories[random.Next(directories.Length)]);
            }
        });
        return Task.CompletedTask;
    }

    private static void TrySocket(Action action)
    {
        try
        {
            action();
        }
        catch (SocketException)
        {
            // The server does not run, or closes connections above its limit.
        }
    }

    private static void TryIo(Action action)
    {
        try
        {
            action();
        }
        catch (IOException)
        {
            // The target of the fault ended meanwhile, or the disk is full.
        }
    }

    private static async Task TryAsync(Func<Task> action)
    {
        try
        {
            await action();
        }
        catch (CommandException)
        {
            // The target of the fault ended meanwhile.
        }
    }
}
