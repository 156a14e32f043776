using System.Diagnostics;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.MicroVms;

/// <summary>The steps of a boot, of a restore and of a snapshot, in their order.</summary>
internal sealed partial class MicroVmLauncher
{
    private IReadOnlyList<LaunchStep> StepsOfBoot() =>
    [
        new(BootStep.Slot, TakeSlotAsync),
        new(BootStep.Record, RecordAsync),
        new(BootStep.Disk, MakeDiskAsync),
        new(BootStep.Vmm, StartVmmAsync),
        new(BootStep.Guest, ReachGuestAsync),
        new(BootStep.Clock, TrySetClockAsync),
    ];

    private IReadOnlyList<LaunchStep> StepsOfRestore() =>
    [
        new(BootStep.Slot, TakeSlotAsync),
        new(BootStep.Record, RecordAsync),
        new(BootStep.Disk, MakeDiskAsync),
        new(BootStep.Vmm, RestoreVmmAsync),
        new(BootStep.Agent, ResumeAsync),
        new(BootStep.Guest, ReachGuestAsync),
        new(BootStep.Warmup, WarmUpAsync),
    ];

    private IReadOnlyList<LaunchStep> StepsOfSnapshot() =>
    [
        new(BootStep.Slot, TakeSlotAsync),
        new(BootStep.Record, RecordAsync),
        new(BootStep.Disk, MakeDiskAsync),
        new(BootStep.Vmm, StartVmmAsync),
        new(BootStep.Guest, ReachGuestAsync),
        new(BootStep.Warmup, WarmUpAsync),
        new(BootStep.Agent, PingAgentAsync),
        new(BootStep.Snapshot, WriteSnapshotAsync),
    ];

    private async Task RunAsync(Boot boot, IReadOnlyList<LaunchStep> steps, CancellationToken cancellationToken)
    {
        foreach (var step in steps)
        {
            boot.Step = step.Name;
            using var span = EngineTracing.Source.StartActivity($"microvm.boot.{Label.Of(step.Name)}");
            var start = Stopwatch.GetTimestamp();
            await step.Run(boot, cancellationToken);
            metrics.BootStepped(boot.Template!.Name, step.Name, Stopwatch.GetElapsedTime(start));
        }
    }

    private sealed record LaunchStep(BootStep Name, Func<Boot, CancellationToken, Task> Run);
}
