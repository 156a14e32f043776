using Pandora.Engine.Guests;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Templates;
using Pandora.Vmm;
using Pandora.Linux;

namespace Pandora.Engine.MicroVms;

/// <summary>Makes snapshots, and what is only done for a microVM that starts from one.</summary>
internal sealed partial class MicroVmLauncher
{
    // What first commands need is in memory afterwards: pages of the shell and of the interpreter, and under emulation translated code. A
    // template need not have the interpreter.
    private static readonly string[] WarmUp = ["true", "python3 -c pass"];
    private static readonly TimeSpan WarmUpLimit = TimeSpan.FromSeconds(20);

    /// <summary>What a snapshot of a template would depend on.</summary>
    /// <exception cref="VmmException">None can be made on this host.</exception>
    public string SnapshotKeyOf(Template template) => SnapshotKeys.Create(
        template, vmm.SnapshotCompatibility ?? throw new VmmException($"{vmm.Capabilities.Name} can make no snapshots here any more"),
        options.DeviceLimits, guests.PublicKey, network.Mtu);

    /// <summary>Boots a microVM of a template, warms it, and writes it into a directory. Nothing of it is left but that.</summary>
    /// <exception cref="VmmException">It could not be; the message says at which step.</exception>
    public async Task MakeSnapshotAsync(Template template, string directory, CancellationToken cancellationToken)
    {
        var boot = NewBoot(names.NewMicroVmId(), template);
        boot.SnapshotDirectory = directory;
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(options.BootTimeout) + WarmUpLimit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        try
        {
            await RunAsync(boot, StepsOfSnapshot(), linked.Token);
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            var reason = limit.IsCancellationRequested ? "it was not done in time" : e.Message;
            throw new VmmException($"it failed at step '{Label.Of(boot.Step)}': {reason}", e);
        }
        finally
        {
            await boot.Teardown.CompleteAsync();
        }

        RequireSame(template);
    }

    // It may be built anew or removed at any moment, and its files are found by their names.
    private void RequireSame(Template template)
    {
        if (templates.Find(template.Name) is not { } now || (now.Key, now.CreatedAt) != (template.Key, template.CreatedAt))
        {
            throw new VmmException("its template was built anew or removed meanwhile");
        }
    }

    private Task PingAgentAsync(Boot boot, CancellationToken cancellationToken) =>
        boot.Agent!.PingAsync(ReadOnlyMemory<byte>.Empty, cancellationToken);

    private async Task WriteSnapshotAsync(Boot boot, CancellationToken cancellationToken)
    {
        // No connection outlives it.
        await boot.Guest!.DisposeAsync().AsTask().WaitAsync(cancellationToken);
        await vmm.SnapshotAsync(boot.Machine!, Snapshot.FilesIn(boot.SnapshotDirectory!), cancellationToken);
        // It is paused: the disk goes with the memory.
        await Task.Run(() => SparseFile.Copy(boot.DiskPath, Path.Combine(boot.SnapshotDirectory!, Snapshot.DiskName)), cancellationToken);
    }

    private async Task RestoreVmmAsync(Boot boot, CancellationToken cancellationToken)
    {
        var machine = await vmm.RestoreAsync(SpecOf(boot), boot.Snapshot!.VmmFiles, cancellationToken);
        HoldMachine(boot, machine);
        // It has its drives open now: memory of one build must not run on the root of another.
        RequireSame(boot.Template!);
    }

    // Before anything else may use the guest: until then it is the template's.
    private async Task ResumeAsync(Boot boot, CancellationToken cancellationToken)
    {
        await boot.Agent!.ResumeAsync(boot.Identity!, cancellationToken);
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
