using Pandora.Engine.Guests;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Templates;
using Pandora.Vmm;
using Pandora.Linux;

namespace Pandora.Engine.MicroVms;

/// <summary>Makes snapshots, and has the steps of a restore that a boot does not need.</summary>
internal sealed partial class MicroVmLauncher
{
    // Afterwards the pages of the shell and the interpreter are in memory, and under emulation their translated code, so that first
    // commands are fast. A template need not have the interpreter.
    private static readonly string[] WarmUp = ["true", "python3 -c pass"];
    private static readonly TimeSpan WarmUpLimit = TimeSpan.FromSeconds(20);

    // A warm microVM that gives way has ended by then.
    private static readonly TimeSpan SnapshotRoomLimit = TimeSpan.FromSeconds(10);

    /// <summary>The key of a template's snapshot: a hash of everything on which the snapshot depends.</summary>
    /// <exception cref="VmmException">No snapshot can be made on this host.</exception>
    public string SnapshotKeyOf(Template template)
    {
        var compatibility = vmm.SnapshotCompatibility
            ?? throw new VmmException($"{vmm.Capabilities.Name} cannot make snapshots on this host any more");
        return SnapshotKeys.Create(template, compatibility, options.DeviceLimits, guests.PublicKey, network.Mtu, options.Exec);
    }

    /// <summary>Boots a microVM of a template, warms it up, writes its snapshot into a directory, and cleans up the microVM.</summary>
    /// <exception cref="VmmException">A step failed; the message names it.</exception>
    public async Task MakeSnapshotAsync(Template template, string directory, CancellationToken cancellationToken)
    {
        var boot = NewBoot(names.NewMicroVmId(), template);
        boot.SnapshotDirectory = directory;
        var asked = time.GetTimestamp();
        boot.Hold = await budget.TakeAsync(
                template.Size, () => time.GetElapsedTime(asked) < SnapshotRoomLimit, time, cancellationToken)
            ?? throw new VmmException("the host has no room for another microVM now");
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(options.BootTimeout) + WarmUpLimit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        try
        {
            await RunAsync(boot, StepsOfSnapshot(), linked.Token);
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            var reason = limit.IsCancellationRequested ? "it did not end in time" : e.Message;
            throw new VmmException($"it failed at step '{Label.Of(boot.Step)}': {reason}", e);
        }
        finally
        {
            await CleanUpAsync(boot);
        }

        RequireSame(template);
    }

    // A template may be rebuilt or removed at any moment, and its files are found by their names.
    private void RequireSame(Template template)
    {
        if (templates.Find(template.Name) is not { } now || (now.Key, now.CreatedAt) != (template.Key, template.CreatedAt))
        {
            throw new VmmException("its template was rebuilt or removed meanwhile");
        }
    }

    private Task PingAgentAsync(Boot boot, CancellationToken cancellationToken) =>
        boot.Agent!.PingAsync(ReadOnlyMemory<byte>.Empty, cancellationToken);

    private async Task WriteSnapshotAsync(Boot boot, CancellationToken cancellationToken)
    {
        // Nothing is under way, and no connection survives the snapshot.
        await boot.Guest!.QuiesceAsync(cancellationToken);
        await boot.Guest.DisposeAsync().AsTask().WaitAsync(cancellationToken);
        await vmm.SnapshotAsync(boot.Machine!, Snapshot.FilesIn(boot.SnapshotDirectory!), cancellationToken);
        // The machine is paused, so disk and memory match.
        await Task.Run(() => SparseFile.Copy(boot.DiskPath, Path.Combine(boot.SnapshotDirectory!, Snapshot.DiskName)), cancellationToken);
    }

    private async Task RestoreVmmAsync(Boot boot, CancellationToken cancellationToken)
    {
        var machine = await vmm.RestoreAsync(SpecOf(boot), boot.Snapshot!.VmmFiles, cancellationToken);
        HoldMachine(boot, machine);
        // The machine has opened its drives: the memory of one build must not run on the root file system of another.
        RequireSame(boot.Template!);
    }

    // Before any other use of the guest: until then it has the identity of the snapshot.
    private async Task ResumeAsync(Boot boot, CancellationToken cancellationToken)
    {
        await boot.Agent!.ResumeAsync(boot.Identity!, boot.Template!.AgentVersion > 0, cancellationToken);
        await boot.Agent.SetClockAsync(cancellationToken);
    }

    private static async Task WarmUpAsync(Boot boot, CancellationToken cancellationToken)
    {
        foreach (var code in WarmUp)
        {
            if (!boot.IsAwaited())
            {
                await boot.Guest!.ExecAsync(new GuestCommand { Code = code, Timeout = WarmUpLimit }, cancellationToken);
            }
        }
    }
}
