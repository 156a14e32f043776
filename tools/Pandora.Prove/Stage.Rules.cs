using Pandora.Client;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.Prove;

/// <summary>
/// Removes network rules for a time, to show that these rules cause a refusal. The server is stopped meanwhile (SIGSTOP), because it would
/// repair the rules, and commands run in guests without the server.
/// </summary>
internal sealed partial class Stage
{
    private const int Stop = 19, Continue = 18;

    /// <summary>The instance's table on the host.</summary>
    public string Table => $"inet pandora_{Server.Instance}";

    /// <summary>The namespace of a sandbox's slot.</summary>
    public NetworkNamespace SlotOf(Sandbox sandbox) => new($"pnd-{Server.Instance}-{sandbox.Wire!.SlotId}");

    /// <summary>A chain of the host's table.</summary>
    public RuleChain OfHost(string chain) => new(World.Host.Path, $"{Table} {chain}");

    /// <summary>A chain of a slot's table.</summary>
    public RuleChain OfSlot(Sandbox sandbox, string chain) => new(SlotOf(sandbox).Path, $"inet slot {chain}");

    /// <summary>
    /// Empties chains, runs an action, and restores the rules. Forwarding is on meanwhile for every interface, so that only the rules can
    /// refuse.
    /// </summary>
    public async Task WithoutAsync(IReadOnlyList<RuleChain> chains, Func<Task> action)
    {
        await WithServerStoppedAsync(async () =>
        {
            await WithForwardingAsync(() => WithEmptiedAsync(chains, action));
            return true;
        });
    }

    /// <summary>Turns on forwarding on the links to the metadata service, the LAN and the neighbour while an action runs.</summary>
    public async Task WithForwardingAsync(Func<Task> action)
    {
        var before = new Dictionary<string, int>();
        try
        {
            foreach (var link in new[] { "meta0", "lan0", "peer0" })
            {
                before[link] = await ReadForwardingAsync(link);
                await SetForwardingAsync(link, 1);
            }

            await action();
        }
        finally
        {
            foreach (var (link, value) in before)
            {
                await SetForwardingAsync(link, value);
            }
        }
    }

    /// <summary>Stops the server (SIGSTOP) while an action runs.</summary>
    public async Task<T> WithServerStoppedAsync<T>(Func<Task<T>> action)
    {
        Server.Signal(Stop);
        try
        {
            return await action();
        }
        finally
        {
            Server.Signal(Continue);
        }
    }

    /// <summary>Runs code in a guest without the server, by ssh(1) with the server's key, and returns what it prints.</summary>
    public async Task<string> RunInGuestAsync(Sandbox sandbox, string code)
    {
        string[] options =
            ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=20"];
        var output = await Command.RunAsync("nsenter",
        [
            $"--net={World.Host.Path}", "ssh", "-F", "none", "-i", Path.Combine(Server.DataDir, "keys", "pandora"),
            .. options.SelectMany(o => new[] { "-o", o }),
            $"root@{sandbox.Wire!.GuestIp}", $"{code}; true",
        ]);
        return output.TrimEnd();
    }

    /// <summary>Requires that a guest reaches an address. The command runs without the server.</summary>
    public async Task MustReachAsync(Sandbox sandbox, string address)
    {
        var answer = await RunInGuestAsync(sandbox, Checks.Reachability.Connect(address));
        TestHostException.Require(
            answer == "hello", $"without the rules {address} was not reached either, so the check proves nothing: {answer}");
    }

    /// <summary>Whether an interface of the host forwards: 1 or 0.</summary>
    public async Task<int> ReadForwardingAsync(string link) =>
        int.Parse(await Command.RunAsync("nsenter", [$"--net={World.Host.Path}", "cat", $"/proc/sys/net/ipv4/conf/{link}/forwarding"]));

    /// <summary>Turns forwarding of an interface of the host on (1) or off (0).</summary>
    public Task SetForwardingAsync(string link, int value) => Command.RunAsync(
        "nsenter", [$"--net={World.Host.Path}", "sh", "-c", $"echo {value} > /proc/sys/net/ipv4/conf/{link}/forwarding"]);

    private static async Task WithEmptiedAsync(IReadOnlyList<RuleChain> chains, Func<Task> action)
    {
        var rules = new List<string>();
        try
        {
            foreach (var chain in chains)
            {
                rules.Add(await Command.RunAsync(
                    "nsenter", [$"--net={chain.NamespacePath}", "nft", "list", "chain", .. chain.Name.Split(' ')]));
                // An empty chain with the policy 'drop' drops everything, so it gets one rule that accepts.
                var isDropping = rules[^1].Contains("policy drop", StringComparison.Ordinal);
                await TestWorld.NftAsync(
                    chain.NamespacePath, $"flush chain {chain.Name}{(isDropping ? $"\nadd rule {chain.Name} accept" : "")}");
            }

            await action();
        }
        finally
        {
            for (var i = 0; i < rules.Count; i++)
            {
                await TestWorld.NftAsync(chains[i].NamespacePath, $"flush chain {chains[i].Name}\n{rules[i]}");
            }
        }
    }
}

/// <summary>A chain of nftables rules.</summary>
/// <param name="NamespacePath">Path of the chain's network namespace.</param>
/// <param name="Name">Family, table and name of the chain.</param>
internal sealed record RuleChain(string NamespacePath, string Name);
