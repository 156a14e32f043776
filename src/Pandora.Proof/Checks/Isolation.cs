using System.Net;
using System.Net.Sockets;
using Pandora.Client;
using Pandora.Proof.World;
using Pandora.Vmm.Linux;

namespace Pandora.Proof.Checks;

/// <summary>Every line of what a guest may and may not reach, from inside a guest, against live listeners. Each refusal is shown to be the rule's doing by taking the rule away.</summary>
internal static class Isolation
{
    private const string Serve = "python3 -c \"\nimport socket, threading\ns = socket.create_server(('0.0.0.0', 7000))\nwhile True:\n    c, _ = s.accept(); c.send(b'hello'); c.close()\n\" > /dev/null 2>&1 &";

    /// <summary>All of them.</summary>
    public static IReadOnlyList<Check> All { get; } =
    [
        new("the internet is reached, by name too", InternetAsync),
        new("a private address that is allowed is reached", AllowedAsync),
        new("the metadata service is refused", (stage, sandbox) => RefusedAsync(stage, sandbox, TestWorld.MetadataAddress, "from_guest")),
        new("the host's LAN is refused", (stage, sandbox) => RefusedAsync(stage, sandbox, TestWorld.LanAddress, "from_guest")),
        new("a neighbour of the host is refused", (stage, sandbox) => RefusedAsync(stage, sandbox, TestWorld.NeighbourAddress, "from_guest")),
        new("the host is refused on its uplink's address", (stage, sandbox) => RefusedAsync(stage, sandbox, TestWorld.HostUplinkAddress, "to_host")),
        new("the host is refused on its LAN's address", (stage, sandbox) => RefusedAsync(stage, sandbox, TestWorld.HostLanAddress, "to_host")),
        new("the host is refused on its link to the metadata service", (stage, sandbox) => RefusedAsync(stage, sandbox, "169.254.169.1", "to_host")),
        new("the host is refused on the slot's own link", (stage, sandbox) => RefusedAsync(stage, sandbox, HostEnd(sandbox), "to_host")),
        new("the gateway offers nothing", GatewayAsync),
        new("another sandbox is refused", OtherSandboxAsync),
        new("nobody reaches a guest unasked", UnaskedAsync),
        new("a spoofed source is dropped", SpoofedAsync),
        new("there is no IPv6", NoIpv6Async),
        new("egress none reaches nothing, not even names", NoEgressAsync),
    ];

    private static async Task<string> InternetAsync(Stage stage, Sandbox sandbox)
    {
        await MustReachAsync(sandbox, "some.name.example");
        await MustReachAsync(sandbox, TestWorld.InternetAddress);
        return "connected";
    }

    private static async Task<string> AllowedAsync(Stage stage, Sandbox sandbox)
    {
        await MustReachAsync(sandbox, Stage.AllowedAddress);
        return "connected";
    }

    private static async Task<string> RefusedAsync(Stage stage, Sandbox sandbox, string address, string chain)
    {
        var refused = await MustBeRefusedAsync(sandbox, address);
        await WithoutAsync(stage, stage.World.Host.Path, $"{Table(stage)} {chain}", () => MustReachAsync(sandbox, address));
        return refused;
    }

    private static async Task<string> GatewayAsync(Stage stage, Sandbox sandbox)
    {
        using var listener = new Listener(SlotOf(stage, sandbox), IPAddress.Any, Stage.Port);
        var refused = await MustBeRefusedAsync(sandbox, "172.16.0.1");
        await WithoutAsync(stage, SlotOf(stage, sandbox).Path, "inet slot input", () => MustReachAsync(sandbox, "172.16.0.1"));
        return refused;
    }

    private static async Task<string> OtherSandboxAsync(Stage stage, Sandbox sandbox)
    {
        await using var other = await stage.Server.Pandora.CreateAsync(TimeSpan.FromSeconds(300));
        await other.ExecAsync(Serve);
        await MustServeAsync(other);
        var refused = await MustBeRefusedAsync(sandbox, other.Created.GuestIp);
        await WithoutAsync(stage, stage.World.Host.Path, $"{Table(stage)} from_guest", () => WithoutAsync(stage, stage.World.Host.Path, $"{Table(stage)} to_guest", () => MustReachAsync(sandbox, other.Created.GuestIp)));
        return refused;
    }

    private static async Task<string> UnaskedAsync(Stage stage, Sandbox sandbox)
    {
        await sandbox.ExecAsync(Serve);
        await MustServeAsync(sandbox);
        ProofException.Require(!await CanConnectAsync(stage.World.Neighbour, sandbox.Created.GuestIp), "a neighbour of the host connected to a guest");
        // Where forwarding of what comes in by that interface was off, too: with it on, it is our rule that refuses.
        var before = await ReadForwardAsync(stage, "peer0");
        await ForwardAsync(stage, "peer0", 1);
        ProofException.Require(!await CanConnectAsync(stage.World.Neighbour, sandbox.Created.GuestIp), "a neighbour of the host connected to a guest once the host forwards");
        await WithoutAsync(stage, stage.World.Host.Path, $"{Table(stage)} to_guest", async () =>
            ProofException.Require(await CanConnectAsync(stage.World.Neighbour, sandbox.Created.GuestIp), "even without the rule nobody connected, so the check shows nothing"));
        await ForwardAsync(stage, "peer0", before);
        return "refused; connects with the rule taken away";
    }

    private static async Task<string> SpoofedAsync(Stage stage, Sandbox sandbox)
    {
        const string Send = "ip addr add 172.16.0.77/32 dev eth0 2>/dev/null; python3 -c \"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('172.16.0.77', 0)); [s.sendto(b'x', ('203.0.113.10', 7001)) for _ in range(3)]\"; sleep 0.5";
        await MustRunAsync(sandbox, Send);
        ProofException.Require(stage.Datagrams.Senders.Count == 0, $"datagrams with a spoofed source arrived, from {string.Join(", ", stage.Datagrams.Senders)}");
        await WithoutAsync(stage, SlotOf(stage, sandbox).Path, "inet slot spoofed", async () =>
        {
            await MustRunAsync(sandbox, Send);
            ProofException.Require(stage.Datagrams.Senders.Count > 0, "even without the rule nothing arrived, so the check shows nothing");
        });
        stage.Datagrams.Senders.Clear();
        return "dropped; arrives with the rule taken away";
    }

    private static async Task<string> NoIpv6Async(Stage stage, Sandbox sandbox)
    {
        var place = SlotOf(stage, sandbox);
        const string Send = "python3 -c \"import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); i = socket.if_nametoindex('eth0'); [s.sendto(b'x', ('ff02::1', 7002, 0, i)) for _ in range(3)]\" 2>&1; sleep 0.5";
        await sandbox.ExecAsync(Send);
        ProofException.Require(place.Run(() => File.ReadAllText("/proc/thread-self/net/if_inet6").Trim()).Length == 0, "the slot's namespace has IPv6 addresses");
        if (!Directory.Exists("/proc/sys/net/ipv6"))
        {
            return "this host has no IPv6 at all";
        }

        // With IPv6 and without our rule, the same packet arrives.
        await Command.RunAsync("nsenter", [$"--net={place.Path}", "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 0 > /proc/sys/net/ipv6/conf/tap0/disable_ipv6"]);
        using var listener = new DatagramListener(place, IPAddress.IPv6Any, 7002);
        await sandbox.ExecAsync(Send);
        ProofException.Require(listener.Senders.Count == 0, "with IPv6 turned on in the namespace, the rule lets it through");
        await WithoutAsync(stage, place.Path, "inet slot spoofed", () => WithoutAsync(stage, place.Path, "inet slot input", async () =>
        {
            await sandbox.ExecAsync($"sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0; {Send}");
            ProofException.Require(listener.Senders.Count > 0, "even without the rule nothing arrived, so the check shows nothing");
        }));
        return "dropped; arrives with IPv6 on and the rule taken away";
    }

    private static async Task<string> NoEgressAsync(Stage stage, Sandbox sandbox)
    {
        await using var closed = await stage.Server.Pandora.CreateAsync(TimeSpan.FromSeconds(300), egress: "none");
        var refused = await MustBeRefusedAsync(closed, TestWorld.InternetAddress);
        await MustBeRefusedAsync(closed, Stage.AllowedAddress);
        ProofException.Require((await closed.ExecAsync("timeout 8 python3 -c \"import socket; socket.gethostbyname('some.name.example')\" 2> /dev/null")).ExitCode != 0, "a name was resolved");
        await MustReachAsync(sandbox, TestWorld.InternetAddress);
        await WithoutAsync(stage, stage.World.Host.Path, $"{Table(stage)} from_guest", () => MustReachAsync(closed, TestWorld.InternetAddress));
        return refused;
    }

    private static string Table(Stage stage) => $"inet pandora_{stage.Server.Instance}";

    private static NetworkNamespace SlotOf(Stage stage, Sandbox sandbox) => new($"pnd-{stage.Server.Instance}-{sandbox.Created.SlotId}");

    // The host's own end of a slot is one below the guest's address.
    private static string HostEnd(Sandbox sandbox) => string.Join('.', sandbox.Created.GuestIp.Split('.')[..3]) + "." + (int.Parse(sandbox.Created.GuestIp.Split('.')[3]) - 1);

    private static async Task<string> ConnectAsync(Sandbox sandbox, string address)
    {
        var result = await sandbox.ExecAsync($"timeout 8 bash -c 'exec 3<> /dev/tcp/{address}/{Stage.Port} && head -c 5 <&3'");
        return result.Stdout.Length > 0 ? result.Stdout : $"exit code {result.ExitCode}: {result.Stderr}";
    }

    private static async Task MustReachAsync(Sandbox sandbox, string address)
    {
        var answer = await ConnectAsync(sandbox, address);
        ProofException.Require(answer == "hello", $"{address} was not reached: {answer}");
    }

    private static async Task MustServeAsync(Sandbox sandbox)
    {
        var answer = "";
        for (var i = 0; i < 20 && answer != "hello"; i++)
        {
            answer = await ConnectAsync(sandbox, "127.0.0.1");
        }

        ProofException.Require(answer == "hello", $"the service in the guest did not come up: {answer}");
    }

    private static async Task<string> MustBeRefusedAsync(Sandbox sandbox, string address)
    {
        var result = await sandbox.ExecAsync($"s=$EPOCHREALTIME; exec 3<> /dev/tcp/{address}/{Stage.Port}; c=$?; echo $c $(( (${{EPOCHREALTIME/./}} - ${{s/./}}) / 1000 ))");
        var words = result.Stdout.Trim().Split(' ');
        ProofException.Require(words[0] == "1", $"{address} was reached");
        // The kernel would give up by itself after two minutes; a refusal comes at once, however slow the guest.
        ProofException.Require(int.Parse(words[1]) < 2500, $"it took {words[1]} ms to be refused by {address}: {result.Stderr}");
        return $"refused in {words[1]} ms; connects with the rule taken away";
    }

    private static async Task MustRunAsync(Sandbox sandbox, string code)
    {
        var result = await sandbox.ExecAsync(code);
        ProofException.Require(result.ExitCode == 0, $"a command failed in the guest: {result.Stderr}");
    }

    private static async Task<bool> CanConnectAsync(NetworkNamespace from, string address)
    {
        using var socket = from.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp));
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(3));
        try
        {
            await socket.ConnectAsync(new IPEndPoint(IPAddress.Parse(address), Stage.Port), limit.Token);
            return true;
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException)
        {
            return false;
        }
    }

    private static async Task<int> ReadForwardAsync(Stage stage, string link) =>
        int.Parse(await Command.RunAsync("nsenter", [$"--net={stage.World.Host.Path}", "cat", $"/proc/sys/net/ipv4/conf/{link}/forwarding"]));

    private static Task ForwardAsync(Stage stage, string link, int value) => Command.RunAsync(
        "nsenter", [$"--net={stage.World.Host.Path}", "sh", "-c", $"echo {value} > /proc/sys/net/ipv4/conf/{link}/forwarding"]);

    /// <summary>Empties a chain, tries, and puts its rules back as they were. Interfaces that forward nothing are opened meanwhile, so that only the rule is tried.</summary>
    private static async Task WithoutAsync(Stage stage, string namespacePath, string chain, Func<Task> action)
    {
        var rules = await Command.RunAsync("nsenter", [$"--net={namespacePath}", "nft", "list", "chain", .. chain.Split(' ')]);
        string[] links = namespacePath == stage.World.Host.Path ? ["meta0", "lan0", "peer0"] : [];
        var before = new Dictionary<string, int>();
        foreach (var link in links)
        {
            before[link] = await ReadForwardAsync(stage, link);
            await ForwardAsync(stage, link, 1);
        }

        await TestWorld.NftAsync(namespacePath, $"flush chain {chain}");
        try
        {
            await action();
        }
        finally
        {
            await TestWorld.NftAsync(namespacePath, $"flush chain {chain}\n{rules}");
            foreach (var link in links)
            {
                await ForwardAsync(stage, link, before[link]);
            }
        }
    }
}
