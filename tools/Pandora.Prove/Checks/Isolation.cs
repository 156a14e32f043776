using System.Net;
using Pandora.Client;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.Prove.Checks;

/// <summary>
/// What a guest may and may not reach, tried inside a guest, against live listeners. Each refusal has a positive control: without the rules
/// the connection succeeds.
/// </summary>
internal static class Isolation
{
    /// <summary>All checks of this class.</summary>
    public static IReadOnlyList<Check> All { get; } =
    [
        new("the internet is reached, by address and by name", InternetAsync),
        new("an allowed private address is reached", AllowedAsync),
        new("the metadata service is refused", (stage, sandbox) => RefusedAsync(stage, sandbox, TestWorld.MetadataAddress, "from_guest")),
        new("the host's LAN is refused", (stage, sandbox) => RefusedAsync(stage, sandbox, TestWorld.LanAddress, "from_guest")),
        new(
            "a neighbour of the host is refused",
            (stage, sandbox) => RefusedAsync(stage, sandbox, TestWorld.NeighbourAddress, "from_guest")),
        new(
            "a public network that the host is on is refused",
            (stage, sandbox) => RefusedAsync(stage, sandbox, TestWorld.GatewayAddress, "from_guest")),
        new("special-purpose ranges and special addresses of clouds are refused", SpecialAsync),
        new(
            "the host is refused on its uplink's address",
            (stage, sandbox) => RefusedAsync(stage, sandbox, TestWorld.HostUplinkAddress, "to_host")),
        new(
            "the host is refused on its LAN's address",
            (stage, sandbox) => RefusedAsync(stage, sandbox, TestWorld.HostLanAddress, "to_host")),
        new(
            "the host is refused on its link to the metadata service",
            (stage, sandbox) => RefusedAsync(stage, sandbox, "169.254.169.1", "to_host")),
        new("the host is refused on its link to the slot", (stage, sandbox) => RefusedAsync(stage, sandbox, HostEnd(sandbox), "to_host")),
        new("the guest's gateway is refused", GatewayAsync),
        new("another sandbox is refused", OtherSandboxAsync),
        new("a neighbour of the host cannot connect to a guest", FromNeighbourAsync),
        new("packets with a spoofed source address are dropped", SpoofedAsync),
        new("a guest has no IPv6", NoIpv6Async),
        new("with egress none no address is reached and no name resolved", NoEgressAsync),
    ];

    private static async Task<string> InternetAsync(Stage stage, Sandbox sandbox)
    {
        await Reachability.MustReachAsync(sandbox, "some.name.example");
        await Reachability.MustReachAsync(sandbox, TestWorld.InternetAddress);
        return "connected";
    }

    private static async Task<string> AllowedAsync(Stage stage, Sandbox sandbox)
    {
        await Reachability.MustReachAsync(sandbox, Stage.AllowedAddress);
        return "connected";
    }

    private static async Task<string> RefusedAsync(Stage stage, Sandbox sandbox, string address, string chain)
    {
        var refused = await Reachability.MustBeRefusedAsync(sandbox, address);
        await stage.WithoutAsync([stage.OfHost(chain), stage.OfSlot(sandbox, "forward")], () => stage.MustReachAsync(sandbox, address));
        return refused;
    }

    private static async Task<string> SpecialAsync(Stage stage, Sandbox sandbox)
    {
        foreach (var address in TestWorld.SpecialAddresses)
        {
            await Reachability.MustBeRefusedAsync(sandbox, address);
        }

        await stage.WithoutAsync([stage.OfHost("from_guest"), stage.OfSlot(sandbox, "forward")], async () =>
        {
            var answers = await stage.RunInGuestAsync(sandbox, string.Join("; ", TestWorld.SpecialAddresses.Select(Reachability.Connect)));
            TestHostException.Require(answers == string.Concat(TestWorld.SpecialAddresses.Select(_ => "hello")),
                $"without the rules not all were reached either, so the check proves nothing: {answers}");
        });
        return $"{TestWorld.SpecialAddresses.Count} addresses refused; each connects without the rules";
    }

    private static async Task<string> GatewayAsync(Stage stage, Sandbox sandbox)
    {
        using var listener = new Listener(stage.SlotOf(sandbox), IPAddress.Any, Stage.Port);
        var refused = await Reachability.MustBeRefusedAsync(sandbox, "172.16.0.1");
        await stage.WithoutAsync([stage.OfSlot(sandbox, "input")], () => stage.MustReachAsync(sandbox, "172.16.0.1"));
        return refused;
    }

    private static async Task<string> OtherSandboxAsync(Stage stage, Sandbox sandbox)
    {
        await using var other = await stage.Server.Pandora.CreateAsync(
            new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        await Reachability.ServeAsync(other);
        var refused = await Reachability.MustBeRefusedAsync(sandbox, other.Wire!.GuestIp);
        RuleChain[] chains =
            [stage.OfHost("from_guest"), stage.OfHost("to_guest"), stage.OfSlot(sandbox, "forward"), stage.OfSlot(other, "forward")];
        await stage.WithoutAsync(chains, () => stage.MustReachAsync(sandbox, other.Wire!.GuestIp));
        return refused;
    }

    private static async Task<string> FromNeighbourAsync(Stage stage, Sandbox sandbox)
    {
        var (from, to) = (stage.World.Neighbour, sandbox.Wire!.GuestIp);
        await Reachability.ServeAsync(sandbox);
        TestHostException.Require(!await Reachability.CanConnectAsync(from, to), "a neighbour of the host connected to a guest");
        // Forwarding of that interface was off, and could be the reason. With forwarding on, only the rules refuse.
        await stage.SetForwardingAsync("peer0", 1);
        TestHostException.Require(
            !await Reachability.CanConnectAsync(from, to), "with forwarding on, a neighbour of the host connected to a guest");
        await stage.WithoutAsync([stage.OfHost("to_guest")], async () => TestHostException.Require(
            !await Reachability.CanConnectAsync(from, to), "without the host's rules, a neighbour of the host connected to a guest"));
        await stage.WithoutAsync([stage.OfHost("to_guest"), stage.OfSlot(sandbox, "forward")], async () => TestHostException.Require(
            await Reachability.CanConnectAsync(from, to),
            "without the rules the neighbour did not connect either, so the check proves nothing"));
        return "refused; connects without the rules";
    }

    private static async Task<string> SpoofedAsync(Stage stage, Sandbox sandbox)
    {
        const string Send =
            "ip addr add 172.16.0.77/32 dev eth0 2>/dev/null; python3 -c \"import socket; s = socket.socket(socket.AF_INET, "
                + $"socket.SOCK_DGRAM); s.bind(('172.16.0.77', 0)); [s.sendto(b'x', ('{TestWorld.InternetAddress}', 7001)) for _ in "
                + "range(3)]\"; sleep 0.5";
        await MustRunAsync(sandbox, Send);
        TestHostException.Require(
            stage.Datagrams.Senders.Count == 0,
            $"datagrams with a spoofed source arrived, from {string.Join(", ", stage.Datagrams.Senders)}");
        await stage.WithoutAsync(
            [stage.OfSlot(sandbox, "spoofed")],
            async () =>
            {
                await stage.RunInGuestAsync(sandbox, Send);
                TestHostException.Require(
                    stage.Datagrams.Senders.Count > 0, "without the rule nothing arrived either, so the check proves nothing");
            });
        stage.Datagrams.Senders.Clear();
        return "dropped; arrives without the rule";
    }

    private static async Task<string> NoIpv6Async(Stage stage, Sandbox sandbox)
    {
        var slot = stage.SlotOf(sandbox);
        const string Send =
            "python3 -c \"import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); i = socket.if_nametoindex('eth0'); "
                + "[s.sendto(b'x', ('ff02::1', 7002, 0, i)) for _ in range(3)]\" 2>&1; sleep 0.5";
        await sandbox.ExecAsync(Send);
        TestHostException.Require(
            slot.Run(() => File.ReadAllText("/proc/thread-self/net/if_inet6").Trim()).Length == 0,
            "the slot's namespace has IPv6 addresses");
        if (!Directory.Exists("/proc/sys/net/ipv6"))
        {
            return "this host has no IPv6 at all";
        }

        // The positive control: with IPv6 on and without the rule, the same packet arrives.
        await Command.RunAsync(
            "nsenter",
            [
                $"--net={slot.Path}",
                "sh",
                "-c",
                "echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 0 > /proc/sys/net/ipv6/conf/tap0/disable_ipv6",
            ]);
        using var listener = new DatagramListener(slot, IPAddress.IPv6Any, 7002);
        await sandbox.ExecAsync(Send);
        TestHostException.Require(listener.Senders.Count == 0, "with IPv6 on in the namespace, a packet passed the rule");
        await stage.WithoutAsync([stage.OfSlot(sandbox, "spoofed"), stage.OfSlot(sandbox, "input")], async () =>
        {
            await stage.RunInGuestAsync(sandbox, $"sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0; {Send}");
            TestHostException.Require(listener.Senders.Count > 0, "without the rule nothing arrived either, so the check proves nothing");
        });
        return "dropped; arrives with IPv6 on and without the rule";
    }

    private static async Task<string> NoEgressAsync(Stage stage, Sandbox sandbox)
    {
        await using var closed = await stage.Server.Pandora.CreateAsync(
            new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300), Egress = "none" });
        var refused = await Reachability.MustBeRefusedAsync(closed, TestWorld.InternetAddress);
        await Reachability.MustBeRefusedAsync(closed, Stage.AllowedAddress);
        TestHostException.Require(
            (
                await closed.ExecAsync("timeout 8 python3 -c \"import socket; socket.gethostbyname('some.name.example')\" 2> /dev/null")
            ).ExitCode != 0,
            "a name was resolved");
        await Reachability.MustReachAsync(sandbox, TestWorld.InternetAddress);
        await stage.WithoutAsync([stage.OfSlot(closed, "forward")], () => stage.MustReachAsync(closed, TestWorld.InternetAddress));
        return refused;
    }

    // The host's address on its link to the slot is one below the guest's address.
    private static string HostEnd(Sandbox sandbox) =>
        string.Join('.', sandbox.Wire!.GuestIp.Split('.')[..3]) + "." + (int.Parse(sandbox.Wire!.GuestIp.Split('.')[3]) - 1);

    private static async Task MustRunAsync(Sandbox sandbox, string code)
    {
        var result = await sandbox.ExecAsync(code);
        TestHostException.Require(result.ExitCode == 0, $"a command failed in the guest: {result.Stderr}");
    }
}
