using System.Globalization;
using Pandora.Load;

namespace Pandora.Prove.Checks;

/// <summary>The speed on this host, and the kind of isolation: reported, without a limit.</summary>
internal static class Figures
{
    private const int Claims = 6, Execs = 20;

    /// <summary>Measures the figures on a server without other load.</summary>
    public static async Task<IReadOnlyList<(string Name, string Value)>> MeasureAsync(Stage stage)
    {
        Latencies acquire = new(), exec = new();
        for (var i = 0; i < Claims; i++)
        {
            await stage.Server.WaitForWarmAsync(1);
            await using var sandbox = await stage.Server.Pandora.CreateAsync();
            acquire.AddMs(sandbox.AcquireTime!.Value.TotalMilliseconds);
        }

        await using (var sandbox = await stage.Server.Pandora.CreateAsync())
        {
            // No microVM boots while the commands run.
            await stage.Server.WaitForWarmAsync(2);
            await sandbox.ExecAsync("true");
            for (var i = 0; i < Execs; i++)
            {
                exec.AddMs((await sandbox.ExecAsync("true")).Duration.TotalMilliseconds);
            }
        }

        var metrics = await stage.Server.Pandora.GetMetricsAsync();
        var boots = LeakCheck.Sum(metrics, "pandora_vm_boot_seconds_count") ?? 0;
        var health = await stage.Server.Pandora.GetHealthAsync();
        return
        [
            ("VMM", health.Vmm),
            ("isolation", health.Isolation),
            ("acquire", Invariant($"p50 {acquire.Percentile(50):0.00} ms, slowest of {Claims} {acquire.Percentile(100):0.00} ms")),
            ("exec of true", Invariant($"p50 {exec.Percentile(50):0.0} ms, slowest of {Execs} {exec.Percentile(100):0.0} ms")),
            (
                "boot in the background",
                boots == 0
                    ? "none"
                    : Invariant(
                        $"{(LeakCheck.Sum(metrics, "pandora_vm_boot_seconds_sum") ?? 0) / boots:0.00} s on average, {boots:0} boots")),
        ];
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
