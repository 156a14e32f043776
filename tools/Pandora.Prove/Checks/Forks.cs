using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Pandora.Client;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.Prove.Checks;

/// <summary>What microVMs restored from one snapshot must not share. <c>docs/fork-correctness.md</c> says why each matters.</summary>
internal static class Forks
{
    private const int Few = 4, ClockPort = 7002, ClockSamples = 12;
    private const double ClockLimitMs = 50;

    // Long enough for hosts that emulate the processor and run twenty microVMs at once.
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    // Prints one line for each value that must differ.
    private const string Tell = """
        cat /proc/sys/kernel/random/uuid
        head -c 16 /dev/urandom | od -An -tx1
        python3 -c 'import os; print(os.urandom(16).hex())'
        cat /proc/sys/kernel/random/boot_id /etc/machine-id
        hostname
        sha256sum < /etc/pandora/host_key
        cat /proc/sys/net/ipv4/ip_local_port_range
        """;

    private static readonly string[] ValueNames =
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

    /// <summary>All checks of this class.</summary>
    public static IReadOnlyList<Check> All { get; } =
    [
        new("restored microVMs share no randomness, name, machine-id, SSH key or session", (stage, _) => NothingSharedAsync(stage, Few)),
        new("a restored microVM's clock equals the host's and never steps back", ClockAsync),
        new("a restored microVM has no connection from the snapshot", NoConnectionAsync),
        new("writes in one microVM do not appear in another or in the snapshot", WritesAsync),
    ];

    /// <summary>Creates a number of sandboxes in restored microVMs and compares their values.</summary>
    /// <exception cref="TestHostException">Two have the same value.</exception>
    public static async Task<string> NothingSharedAsync(Stage stage, int count)
    {
        await stage.Server.WaitForSnapshotAsync();
        var sandboxes = new List<Sandbox>();
        try
        {
            var values = new List<string[]>();
            while (values.Count < count)
            {
                var sandbox = await stage.Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) });
                sandboxes.Add(sandbox);
                if (!stage.Server.IsRestored(sandbox.Id))
                {
                    // This microVM booted while the snapshot was made.
                    TestHostException.Require(sandboxes.Count - values.Count < 12, "microVMs are booted and not restored");
                    continue;
                }

                var lines = (await sandbox.ExecAsync(Tell, new ExecOptions { Timeout = Patience })).Stdout.Split(
                    '\n', StringSplitOptions.RemoveEmptyEntries);
                values.Add([.. lines, await ReadCookieAsync(stage, sandbox)]);
                TestHostException.Require(values[^1].Length == ValueNames.Length, $"the guest printed {string.Join(", ", lines)}");
            }

            for (var i = 0; i < ValueNames.Length; i++)
            {
                var twice = values.GroupBy(t => t[i]).FirstOrDefault(g => g.Count() > 1);
                TestHostException.Require(twice is null, $"{twice?.Count()} of {count} have the same {ValueNames[i]}: {twice?.Key}");
            }

            return $"{count} compared in {ValueNames.Length} values";
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
            var steps = await restored.ExecAsync(
                $"for i in $(seq {ClockSamples}); do echo -n $EPOCHREALTIME > /dev/udp/{TestWorld.InternetAddress}/{ClockPort}; "
                    + "sleep 0.2; done; python3 -c 'import time\nlast = time.time()\nfor i in range(20000):\n    now = time.time()\n"
                    + "    assert now >= last, last - now\n    last = now'",
                new ExecOptions { Timeout = Patience });
            TestHostException.Require(steps.ExitCode == 0, $"the guest's clock stepped back: {steps.Stderr}");
        }

        TestHostException.Require(!offsets.IsEmpty, "none of the guest's datagrams arrived");
        // A datagram arrives a little after it was sent. The fastest one has the largest offset, and is the most accurate.
        var offset = offsets.Max();
        TestHostException.Require(Math.Abs(offset) <= ClockLimitMs, Invariant($"the clock differs by {offset:0.0} ms from the host's"));
        return Invariant($"differs by {offset:0.0} ms");
    }

    private static async Task<string> NoConnectionAsync(Stage stage, Sandbox sandbox)
    {
        await using var restored = await ClaimAsync(stage);
        // proc_net_tcp(5): the fourth column is the state, 01 is ESTABLISHED. The server's SSH connection is the only one allowed.
        var open = (await restored.ExecAsync("awk '$4 == \"01\"' /proc/net/tcp")).Stdout;
        TestHostException.Require(
            open.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length == 1,
            $"the guest has other connections than the server's:\n{open}");
        return "only the server's connection is open";
    }

    private static async Task<string> WritesAsync(Stage stage, Sandbox sandbox)
    {
        List<string> before;
        await using (var first = await ClaimAsync(stage))
        {
            // Not earlier: a server that has just started may still replace the snapshot of the last one.
            before = Hashes(stage);
            await first.ExecAsync("echo mine > /root/mine; echo mine > /run/mine; echo mine >> /etc/motd; sync");
            await using var second = await ClaimAsync(stage);
            await MustNotHaveAsync(second);
        }

        await using var third = await ClaimAsync(stage);
        await MustNotHaveAsync(third);
        var after = Hashes(stage);
        TestHostException.Require(
            before.SequenceEqual(after),
            $"the snapshot's files have changed: from {string.Join(", ", before.Except(after))} "
                + $"to {string.Join(", ", after.Except(before))}");
        return "not in the next two; the snapshot's files are unchanged";
    }

    private static async Task MustNotHaveAsync(Sandbox sandbox)
    {
        var seen = (await sandbox.ExecAsync("ls -d /root/mine /run/mine 2> /dev/null; grep -s mine /etc/motd; true")).Stdout;
        TestHostException.Require(seen.Length == 0, $"another microVM has the writes: {seen}");
    }

    /// <summary>Creates a sandbox in a restored microVM.</summary>
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

    // RFC 4253, 7.1: an SSH server's first packet is SSH_MSG_KEXINIT with a cookie of 16 random bytes. Two servers with the same random
    // state send the same cookie and make the same keys.
    private static async Task<string> ReadCookieAsync(Stage stage, Sandbox sandbox)
    {
        using var limit = new CancellationTokenSource(Patience, TimeProvider.System);
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

        // The packet: length (4 bytes), padding length (1), message number (1), cookie (16).
        var packet = new byte[22];
        await stream.ReadExactlyAsync(packet, limit.Token);
        TestHostException.Require(packet[5] == 20, $"the SSH server sent message {packet[5]} first");
        return Convert.ToHexString(packet.AsSpan(6));
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
