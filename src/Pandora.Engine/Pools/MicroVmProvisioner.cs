using Microsoft.Extensions.Logging;
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
/// <param name="permits">Permits to boot; each start holds one.</param>
/// <param name="count">The number of permits.</param>
/// <param name="logger">Log of the reason why a template has no snapshot.</param>
internal sealed partial class MicroVmProvisioner(
    TemplateStore templates, MicroVmLauncher launcher, SnapshotSource? snapshots, SemaphoreSlim permits, int count, ILogger logger)
{
    /// <summary>The number of microVMs that may start at once.</summary>
    public int PermitCount => count;

    /// <summary>Whether a template of that name exists.</summary>
    /// <exception cref="StartupException">The template exists, but one of its files is missing or unreadable.</exception>
    public bool Has(string template) => templates.Find(template) is not null;

    /// <summary>
    /// Starts to make a template's snapshot before its first microVMs boot. The boots use the other permits; the microVMs that start later
    /// are restored, which is several times faster. With one permit in all, the boots come first.
    /// </summary>
    public void Prepare(string template)
    {
        try
        {
            if (count > 1 && templates.Find(template) is { } found)
            {
                snapshots?.Prepare(found);
            }
        }
        catch (Exception e) when (e is StartupException or IOException or UnauthorizedAccessException)
        {
            // The pool works without a snapshot, and its boots report the error.
            LogNotPrepared(e.Message);
        }
    }

    /// <summary>Starts one microVM, when a permit is free.</summary>
    /// <param name="template">Name of the template.</param>
    /// <param name="isAwaited">Whether clients wait: then the microVM is not warmed up first.</param>
    /// <param name="cancellationToken">Cancels the start, which is cleaned up.</param>
    /// <exception cref="StartupException">The template was removed.</exception>
    /// <exception cref="BootException">The microVM did not become ready.</exception>
    public async Task<MicroVm> ProvisionAsync(string template, Func<bool> isAwaited, CancellationToken cancellationToken)
    {
        await permits.WaitAsync(cancellationToken);
        try
        {
            var found = templates.Find(template) ?? throw new StartupException($"template '{template}' was removed");
            if (snapshots is null || await snapshots.FindAsync(found, cancellationToken) is not { } snapshot)
            {
                return await launcher.LaunchAsync(found, snapshot: null, isAwaited, cancellationToken);
            }

            try
            {
                var restored = await launcher.LaunchAsync(found, snapshot, isAwaited, cancellationToken);
                snapshots.Succeeded(snapshot);
                return restored;
            }
            catch (BootException e) when (!e.IsOfHost && !cancellationToken.IsCancellationRequested)
            {
                var booted = await launcher.LaunchAsync(found, snapshot: null, isAwaited, cancellationToken);
                snapshots.Failed(snapshot, e);
                return booted;
            }
        }
        finally
        {
            permits.Release();
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Reason}")]
    private partial void LogNotPrepared(string reason);
}
