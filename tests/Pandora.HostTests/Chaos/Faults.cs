using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Pandora.Client;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests.Chaos;

/// <summary>One thing that goes wrong.</summary>
/// <param name="Name">What.</param>
/// <param name="RunAsync">Does it, and takes it back where it can be taken back.</param>
internal sealed record Fault(string Name, Func<Task> RunAsync);

/// <summary>Does to a server, its VMMs and its guests what happens to servers in a bad year, in an order that a seed gives.</summary>
internal sealed class Faults(ServerProcess server, TestWorld world, string dataDirectory, Random random)
{
    private static readonly TimeSpan Moment = TimeSpan.FromSeconds(3);

    /// <summary>Those who use the server wait here while none is meant to run.</summary>
    public SemaphoreSlim Restarting { get; } = new(1, 1);

    /// <summary>When something was last done that makes the server refuse claims or commands for want of room or rules.</summary>
    public ConcurrentDictionary<string, long> LastDone { get; } = new();

    /// <summary>How often each was done.</summary>
    public ConcurrentDictionary<string, int> Done { get; } = new();

    /// <summary>All of them.</summary>
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
            new("SSH connection cut", () => InGuestAsync("kill -9 $(ps -o ppid= $PPID)")),
            new(
                "guest's network down for a while",
                async () =>
                {
                    var places = Directory.GetFiles("/run/netns", $"pnd-{server.Instance}-*");
                    if (places.Length > 0)
                    {
                        var place = Path.GetFileName(places[random.Next(places.Length)]);
                        await TryAsync(() => Command.RunAsync("ip", ["-n", place, "link", "set", "tap0", "down"]));
                        await Pause();
                        await TryAsync(() => Command.RunAsync("ip", ["-n", place, "link", "set", "tap0", "up"]));
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
                    // Only this keeps things from being undone.
                    server.MayLeave = true;
                    var limit = Directory.GetFiles($"/proc/{server.Pid}/fd").Length + 3;
                    // proc(5): limits has the soft one in the fourth column.
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
                    var places = Directory.GetFiles("/run/netns", $"pnd-{server.Instance}-*");
                    if (places.Length > 0)
                    {
                        await TryAsync(() => TestWorld.NftAsync(places[random.Next(places.Length)], "flush ruleset"));
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
                    // A page in its middle, or its end.
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

    /// <summary>Does one.</summary>
    public async Task DoAsync(Fault fault)
    {
        // From its beginning on: what clients are told while it goes on is its doing.
        LastDone[fault.Name] = TimeProvider.System.GetTimestamp();
        try
        {
            await fault.RunAsync();
        }
        catch (DirectoryNotFoundException) when (server.HasExited)
        {
            // Its /proc is gone with it.
        }

        Done.AddOrUpdate(fault.Name, 1, (_, n) => n + 1);
        LastDone[fault.Name] = TimeProvider.System.GetTimestamp();
    }

    /// <summary>Whether one of some was done within so long.</summary>
    public bool WasDone(TimeSpan within, params string[] names) =>
        names.Any(n => LastDone.TryGetValue(n, out var at) && TimeProvider.System.GetElapsedTime(at) < within);

    /// <summary>
    /// Starts a server again that has ended by itself, as a service manager would. Two ends are forgiven, of one that has no descriptor
    /// left: .NET's runtime itself may give up, and says so; and a server that can take nothing over stops, for the next one to do so.
    /// </summary>
    /// <exception cref="InvalidOperationException">It ended otherwise.</exception>
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
        if (!server.MayLeave || !(couldNotStart || log.Split('\n').Contains("Out of memory.")))
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
        catch (Exception e)
            when (e is PandoraApiException or ServerUnreachableException or OperationCanceledException or HttpRequestException)
        {
            // It is meant to go wrong.
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
            // The server is away, or closes what it has no room for.
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
            // What it was for has ended meanwhile, or the disk is full.
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
            // What it was for has ended meanwhile.
        }
    }
}
