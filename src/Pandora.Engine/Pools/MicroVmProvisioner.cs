using Microsoft.Extensions.Logging;
using Pandora.Engine.Admission;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Templates;

namespace Pandora.Engine.Pools;

/// <summary>
/// Starts microVMs of a template: restores them from its snapshot where there is one, else boots them. When a restore fails, the microVM is
/// booted, and the failure counts against the snapshot only if the boot succeeds: else the host is the cause.
/// </summary>
/// <param name="templates">The templates. Each start reads its template again, so that the next start uses a rebuilt template.</param>
/// <param name="launcher">Starts the microVMs.</param>
/// <param name="snapshots">The snapshots to restore from; null to boot every microVM.</param>
/// <param name="budget">The host's budget, of which each microVM holds its part.</param>
/// <param name="permits">Permits to start; each start holds one.</param>
/// <param name="time">The clock of waits.</param>
/// <param name="logger">Log of the reason why a template has no snapshot.</param>
internal sealed partial class MicroVmProvisioner(
    TemplateStore templates, MicroVmLauncher launcher, SnapshotSource? snapshots, HostBudget budget, StartPermits permits,
    TimeProvider time, ILogger logger)
{
    /// <summary>The host's budget.</summary>
    public HostBudget Budget => budget;

    /// <summary>The number of microVMs that may start at once.</summary>
    public int PermitCount => permits.Count;

    /// <summary>Reads a template; null when there is none of that name.</summary>
    /// <exception cref="StartupException">The template exists, but one of its files is missing or unreadable.</exception>
    public Template? Find(string template) => templates.Find(template);

    /// <summary>
    /// Starts to make a template's snapshot before its first microVMs boot. The boots use the other permits; the microVMs that start later
    /// are restored, which is several times faster. With one permit in all, the boots come first.
    /// </summary>
    /// <returns>The template's size; null when the template cannot be read.</returns>
    public MicroVmSize? Prepare(string template)
    {
        try
        {
            var found = templates.Find(template);
            if (permits.Count > 1 && found is not null)
            {
                snapshots?.Prepare(found);
            }

            return found?.Size;
        }
        catch (Exception e) when (e is StartupException or IOException or UnauthorizedAccessException)
        {
            // The pool works without a snapshot, and its boots report the error.
            LogNotPrepared(e.Message);
            return null;
        }
    }

    /// <summary>Starts one microVM, when the host has room for it and a permit is free.</summary>
    /// <param name="template">Name of the template.</param>
    /// <param name="size">Size of the microVM; null for the template's.</param>
    /// <param name="awaitedBy">The project that waits for it; null when none does. When one does, warm microVMs give way to it, and it
    /// is not warmed up first.</param>
    /// <param name="cancellationToken">Cancels the start, which is cleaned up.</param>
    /// <exception cref="NoRoomException">The host has no room, and no client waits.</exception>
    /// <exception cref="StartupException">The template was removed.</exception>
    /// <exception cref="BootException">The microVM did not become ready.</exception>
    public async Task<MicroVm> ProvisionAsync(
        string template, MicroVmSize? size, Func<string?> awaitedBy, CancellationToken cancellationToken)
    {
        var needed = Read(template, size).Size;
        // Before the permit: a start that waits for room must not keep others from starting.
        var hold = budget.TryTake(needed)
            ?? (IsAwaited() ? await budget.TakeAsync(needed, IsAwaited, time, cancellationToken) : null)
            ?? throw new NoRoomException(needed);
        var isPermitted = false;
        try
        {
            await permits.WaitAsync(awaitedBy() ?? StartPermits.NoProject, cancellationToken);
            isPermitted = true;
            var found = Read(template, size);
            if (found.Size != needed)
            {
                // The template was built again meanwhile.
                hold.Release();
                hold = budget.TakeExisting(found.Size);
            }

            using var use = snapshots is null ? null : await snapshots.FindAsync(found, cancellationToken);
            if (snapshots is null || use?.Snapshot is not { } snapshot)
            {
                return await launcher.LaunchAsync(found, snapshot: null, hold.Share(), IsAwaited, cancellationToken);
            }

            try
            {
                var restored = await launcher.LaunchAsync(found, snapshot, hold.Share(), IsAwaited, cancellationToken);
                snapshots.Succeeded(snapshot);
                return restored;
            }
            catch (BootException e) when (!e.IsOfHost && !cancellationToken.IsCancellationRequested)
            {
                var booted = await launcher.LaunchAsync(found, snapshot: null, hold.Share(), IsAwaited, cancellationToken);
                snapshots.Failed(snapshot, e);
                return booted;
            }
        }
        finally
        {
            // The launcher's share is given back when nothing of the microVM remains.
            hold.Release();
            if (isPermitted)
            {
                permits.Release();
            }
        }

        bool IsAwaited() => awaitedBy() is not null;
    }

    private Template Read(string template, MicroVmSize? size)
    {
        var found = templates.Find(template) ?? throw new StartupException($"template '{template}' was removed");
        return size is null ? found : found.In(size);
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Reason}")]
    private partial void LogNotPrepared(string reason);
}
