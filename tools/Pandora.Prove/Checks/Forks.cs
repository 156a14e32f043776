using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Pandora.Client;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.Prove.Checks;

/// <summary>What microVMs that start from one snapshot may not share. <c>docs/fork-correctness.md</c> tells why each matters.</summary>
internal static class Forks
{
    private const int Few = 4, ClockPort = 7002, ClockSamples = 12;
    private const double ClockLimitMs = 50;

    // For hosts that emulate, and run twenty at once.
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    // A line each of what must differ.
    private const string Tell = """
        cat /proc/sys/kernel/random/uuid
        head -c 16 /dev/urandom | od -An -tx1
        python3 -c 'import os; print(os.urandom(16).hex())'
        cat /proc/sys/kernel/random/boot_id /etc/machine-id
        hostname
        sha256sum < /etc/pandora/host_key
        cat /proc/sys/net/ipv4/ip_local_port_range
        """;

    private static readonly string[] Told =
    [
        "/proc/sys/kernel/random/uuid",
        "/dev/urandom",
        "os.urandom",
        "boot_id",
        "machine-id",
        "hostname",
        "SSH host key",
        "TCP source ports",
        "SSH key exchange",
    ];

    /// <summary>All of them.</summary>
    public static IReadOnlyList<Check> All { get; } =
    [
        new("restored microVMs share no randomness, name, machine-id, SSH key or session", (stage, _) => NothingSharedAsync(stage, Few)),
        new("a restored microVM's clock is the host's, and never goes back", ClockAsync),
        new("no connection of the template's survives", NoConnectionAsync),
        new("writes in one appear in no other and not in the snapshot", WritesAsync),
    ];

    /// <summary>Claims so many restored microVMs at once and compares them.</summary>
    /// <exception cref="TestHostException">Two are alike in something.</exception>
    public static async Task<string> NothingSharedAsync(Stage stage, int count)
    {
        await stage.Server.WaitForSnapshotAsync();
        var sandboxes = new List<Sandbox>();
        try
        {
            var told = new List<string[]>();
            while (told.Count < count)
            {
                var sandbox = await stage.Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) });
                sandboxes.Add(sandbox);
                if (!stage.Server.IsRestored(sandbox.Id))
                {
                    // Booted while the snapshot was made.
                    TestHostException.Require(sandboxes.Count - told.Count < 12, "microVMs are booted and not restored");
                    continue;
                }

                var lines = (await sandbox.ExecAsync(Tell, new ExecOptions { Timeout = Patience })).Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries);
                told.Add([.. lines, await ReadCookieAsync(stage, sandbox)]);
                TestHostException.Require(told[^1].Length == Told.Length, $"it told {string.Join(", ", lines)}");
            }

            for (var i = 0; i < Told.Length; i++)
            {
                var twice = told.GroupBy(t => t[i]).FirstOrDefault(g => g.Count() > 1);
                TestHostException.Require(twice is null, $"{twice?.Count()} of {count} have the same {Told[i]}: {twice?.Key}");
            }

            return $"{count} compared in {Told.Length} things";
        }
        finally
        {
            await Task.WhenAll(sandboxes.Select(s => s.DisposeAsync().AsTask()));
        }
    }

    private static async Task<string> ClockAsync(Stage stage, Sandbox sandbox)
    {
        await using var restored = await ClaimAsync(stage);
        var offsets = new ConcurrentBag<double>();
        using (new DatagramListener(stage.World.Internet, IPAddress.Parse(TestWorld.InternetAddress), ClockPort, sent =>
        {
            var guest = double.Parse(System.Text.Encoding.ASCII.GetString(sent), CultureInfo.InvariantCulture);
            offsets.Add((guest * 1000) - (TimeProvider.System.GetUtcNow() - DateTimeOffset.UnixEpoch).TotalMilliseconds);
            return null;
        }))
        {
            var steps = await restored.ExecAsync($"for i in $(seq {ClockSamples}); do echo -n $EPOCHREALTIME > /dev/udp/{TestWorld.InternetAddress}/{ClockPort}; done; "
                    + "python3 -c 'import time\nlast = time.time()\nfor i in range(20000):\n    now = time.time()\n    assert now "
                    + ">= last, last - now\n    last = now'", new ExecOptions { Timeout = Patience });
            TestHostException.Require(steps.ExitCode == 0, $"its clock went back: {steps.Stderr}");
        }

        TestHostException.Require(!offsets.IsEmpty, "none of its datagrams came");
        // What came was sent a little before: the one that took the least time tells the most.
        var offset = offsets.Max();
        TestHostException.Require(Math.Abs(offset) <= ClockLimitMs, Invariant($"it is {offset:0.0} ms from the host's"));
        return Invariant($"{offset:0.0} ms from the host's");
    }

    private static async Task<string> NoConnectionAsync(Stage stage, Sandbox sandbox)
    {
        await using var restored = await ClaimAsync(stage);
        // proc_net_tcp(5): the fourth column is the state, 01 is ESTABLISHED; that one is the server's own.
        var open = (await restored.ExecAsync("awk '$4 == \"01\"' /proc/net/tcp")).Stdout;
        TestHostException.Require(
            open.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length == 1, $"there are others than the server's:\n{open}");
        return "only the server's own is open";
    }

    private static async Task<string> WritesAsync(Stage stage, Sandbox sandbox)
    {
        await stage.Server.WaitForSnapshotAsync();
        var before = Hashes(stage);
        await using (var first = await ClaimAsync(stage))
        {
            await first.ExecAsync("echo mine > /root/mine; echo mine > /run/mine; echo mine >> /etc/motd; sync");
            await using var second = await ClaimAsync(stage);
            await MustNotHaveAsync(second);
        }

        await using var third = await ClaimAsync(stage);
        await MustNotHaveAsync(third);
        TestHostException.Require(before.SequenceEqual(Hashes(stage)), "the snapshot's files have changed");
        return "not in the next two, and the snapshot's files are as they were";
    }

    private static async Task MustNotHaveAsync(Sandbox sandbox)
    {
        var seen = (await sandbox.ExecAsync("ls -d /root/mine /run/mine 2> /dev/null; grep -s mine /etc/motd; true")).Stdout;
        TestHostException.Require(seen.Length == 0, $"another has it: {seen}");
    }

    /// <summary>Claims one that was restored.</summary>
    private static async Task<Sandbox> ClaimAsync(Stage stage)
    {
        await stage.Server.WaitForSnapshotAsync();
        for (var tries = 0; ; tries++)
        {
            var sandbox = await stage.Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
            if (stage.Server.IsRestored(sandbox.Id))
            {
                return sandbox;
            }

            await sandbox.DisposeAsync();
            TestHostException.Require(tries < 12, "microVMs are booted and not restored");
        }
    }

    private static List<string> Hashes(Stage stage) =>
        [.. stage.Server.Snapshots.SelectMany(Directory.GetFiles).Order(StringComparer.Ordinal).Select(f => $"{f} {SparseFile.Hash(f)}")];

    // RFC 4253, 7.1: a server's first packet is SSH_MSG_KEXINIT with 16 random bytes; whoever has the same random state sends the same, and
    // makes the same keys.
    private static async Task<string> ReadCookieAsync(Stage stage, Sandbox sandbox)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(20), TimeProvider.System);
        using var socket = stage.World.Host.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp));
        await socket.ConnectAsync(IPAddress.Parse(sandbox.Wire!.GuestIp), 22, limit.Token);
        await using var stream = new NetworkStream(socket);
        await stream.WriteAsync("SSH-2.0-proof\r\n"u8.ToArray(), limit.Token);
        var one = new byte[1];
        do
        {
            await stream.ReadExactlyAsync(one, limit.Token);
        }
        while (one[0] != '\n');

        // Length (4), padding (1), the message's number (1), the cookie.
        var packet = new byte[22];
        await stream.ReadExactlyAsync(packet, limit.Token);
        TestHostException.Require(packet[5] == 20, $"its SSH server sent message {packet[5]} first");
        return Convert.ToHexString(packet.AsSpan(6));
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
