using System.Diagnostics;
using System.Globalization;
using Pandora.Client;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.Prove.Checks;

/// <summary>What must hold when another program deletes the host's rules, and what remains of a sandbox's connections.</summary>
internal static class NetworkProtection
{
    /// <summary>All checks of this class.</summary>
    public static IReadOnlyList<Check> All { get; } =
    [
        new("without the host's table the rules of the slot's namespace still refuse", SlotRefusesAsync),
        new("the host's table is repaired when another program deletes it", RepairedAsync),
        new("the end of a sandbox deletes its connection tracking entries", TrackingAsync),
    ];

    private static readonly string[] Forbidden = [TestWorld.MetadataAddress, TestWorld.LanAddress, TestWorld.NeighbourAddress,
        TestWorld.HostUplinkAddress, TestWorld.HostLanAddress, TestWorld.GatewayAddress];

    /// <summary>Deletes the host's table, as the restart of another firewall does.</summary>
    public static Task DeleteTableAsync(Stage stage) =>
        Command.RunAsync("nsenter", [$"--net={stage.World.Host.Path}", "nft", "delete", "table", .. stage.Table.Split(' ')]);

    private static async Task<string> SlotRefusesAsync(Stage stage, Sandbox sandbox)
    {
        await using var closed = await stage.Server.Pandora.CreateAsync(
            new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300), Egress = "none" });
        return await stage.WithServerStoppedAsync(async () =>
        {
            await DeleteTableAsync(stage);
            await stage.WithForwardingAsync(async () =>
            {
                // The positive control: the same path reaches an allowed address.
                await stage.MustReachAsync(sandbox, TestWorld.InternetAddress);
                var answers = await stage.RunInGuestAsync(sandbox, ConnectAll(Forbidden))
                    + await stage.RunInGuestAsync(closed, ConnectAll([.. Forbidden, TestWorld.InternetAddress]));
                TestHostException.Require(answers.Length == 0, $"a forbidden address was reached: {answers}");
            });
            return $"{(2 * Forbidden.Length) + 1} connections refused; an allowed one connects";
        });
    }

    private static string ConnectAll(IEnumerable<string> addresses) => string.Join("; ", addresses.Select(Reachability.Connect));

    private static async Task<string> RepairedAsync(Stage stage, Sandbox sandbox)
    {
        var start = Stopwatch.GetTimestamp();
        await DeleteTableAsync(stage);
        while (!(await TestWorld.ListRulesAsync(stage.World.Host.Path)).Contains($"table {stage.Table}", StringComparison.Ordinal))
        {
            TestHostException.Require(Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(30), "the table was not repaired within 30 s");
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System);
        }

        var elapsed = Stopwatch.GetElapsedTime(start);
        await Reachability.MustReachAsync(sandbox, TestWorld.InternetAddress);
        await Reachability.MustBeRefusedAsync(sandbox, TestWorld.LanAddress);
        return string.Create(CultureInfo.InvariantCulture, $"repaired after {elapsed.TotalSeconds:0.0} s");
    }

    private static async Task<string> TrackingAsync(Stage stage, Sandbox sandbox)
    {
        await using var other = await stage.Server.Pandora.CreateAsync();
        // One shell opens all of them at once: the kernel forgets a closed connection after 10 s.
        await other.ExecAsync($"for i in $(seq 20); do exec {{c}}<> /dev/tcp/{TestWorld.InternetAddress}/{Stage.Port}; done");
        var before = await TrackedAsync(stage, other.Wire!.GuestIp);
        TestHostException.Require(before >= 20, $"only {before} entries existed before, so the check proves nothing");
        var receipt = await other.EndAsync();
        var after = await TrackedAsync(stage, other.Wire!.GuestIp);
        TestHostException.Require(
            receipt.Remaining == 0 && after == 0, $"{receipt.Remaining} resources remain by the receipt, and {after} entries remain");
        return $"{before} entries before, none afterwards";
    }

    private static async Task<int> TrackedAsync(Stage stage, string address) =>
        (await Command.RunAsync("nsenter", [$"--net={stage.World.Host.Path}", "sh", "-c", "cat /proc/net/nf_conntrack"])).Split('\n')
            .Count(l => l.Contains($"={address} ", StringComparison.Ordinal));
}
