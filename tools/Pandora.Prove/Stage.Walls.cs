using Pandora.Client;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.Prove;

/// <summary>How rules are taken away, so that what they refuse is seen to be their doing. The server is stopped meanwhile (SIGSTOP), for it
/// would put them back, and guests are reached past it.</summary>
internal sealed partial class Stage
{
    private const int Stop = 19, Continue = 18;

    /// <summary>The instance's table on the host.</summary>
    public string Table => $"inet pandora_{Server.Instance}";

    /// <summary>The namespace of a sandbox's slot.</summary>
    public NetworkNamespace SlotOf(Sandbox sandbox) => new($"pnd-{Server.Instance}-{sandbox.Wire!.SlotId}");

    /// <summary>A chain of the host's table.</summary>
    public Wall OfHost(string chain) => new(World.Host.Path, $"{Table} {chain}");

    /// <summary>A chain of a slot's table.</summary>
    public Wall OfSlot(Sandbox sandbox, string chain) => new(SlotOf(sandbox).Path, $"inet slot {chain}");

    /// <summary>Empties chains, tries, and puts their rules back as they were. Interfaces that forward nothing are opened meanwhile, so
    /// that only the rules are tried.</summary>
    public async Task WithoutAsync(IReadOnlyList<Wall> walls, Func<Task> action)
    {
        await WithServerStoppedAsync(async () =>
        {
            await WithForwardingAsync(() => WithEmptiedAsync(walls, action));
            return true;
        });
    }

    /// <summary>Lets the links to the metadata service, the LAN and the neighbour forward for as long as something is tried.</summary>
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

    /// <summary>Stops the server for as long as something is tried.</summary>
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

    /// <summary>Runs something in a guest past the server, by ssh(1) with the server's own key, and returns what it prints.</summary>
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

    /// <summary>Requires that a guest reaches an address, past the server.</summary>
    public async Task MustReachAsync(Sandbox sandbox, string address)
    {
        var answer = await RunInGuestAsync(sandbox, Checks.Reachability.Connect(address));
        TestHostException.Require(
            answer == "hello", $"even without the rules {address} was not reached, so the check shows nothing: {answer}");
    }

    /// <summary>Whether an interface of the host forwards.</summary>
    public async Task<int> ReadForwardingAsync(string link) =>
        int.Parse(await Command.RunAsync("nsenter", [$"--net={World.Host.Path}", "cat", $"/proc/sys/net/ipv4/conf/{link}/forwarding"]));

    /// <summary>Lets an interface of the host forward, or not.</summary>
    public Task SetForwardingAsync(string link, int value) => Command.RunAsync(
        "nsenter", [$"--net={World.Host.Path}", "sh", "-c", $"echo {value} > /proc/sys/net/ipv4/conf/{link}/forwarding"]);

    private static async Task WithEmptiedAsync(IReadOnlyList<Wall> walls, Func<Task> action)
    {
        var rules = new List<string>();
        try
        {
            foreach (var wall in walls)
            {
                rules.Add(await Command.RunAsync(
                    "nsenter", [$"--net={wall.NamespacePath}", "nft", "list", "chain", .. wall.Chain.Split(' ')]));
                // A chain that drops by policy lets through what is accepted in it.
                var isDropping = rules[^1].Contains("policy drop", StringComparison.Ordinal);
                await TestWorld.NftAsync(
                    wall.NamespacePath, $"flush chain {wall.Chain}{(isDropping ? $"\nadd rule {wall.Chain} accept" : "")}");
            }

            await action();
        }
        finally
        {
            for (var i = 0; i < rules.Count; i++)
            {
                await TestWorld.NftAsync(walls[i].NamespacePath, $"flush chain {walls[i].Chain}\n{rules[i]}");
            }
        }
    }
}

/// <summary>A chain that keeps something out.</summary>
/// <param name="NamespacePath">The network namespace that it is in.</param>
/// <param name="Chain">Family, table and name.</param>
internal sealed record Wall(string NamespacePath, string Chain);
