using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Templates;

namespace Pandora.Engine.Pools;

/// <summary>
/// Makes microVMs of a template: restored from its snapshot where there is one, else booted. One that cannot be restored is booted, and
/// only when that succeeds is the failure the snapshot's and not the host's.
/// </summary>
/// <param name="templates">Read anew for each, so that a rebuilt one is used from the next on.</param>
/// <param name="launcher">Starts them.</param>
/// <param name="snapshots">What they are restored from; null to boot each.</param>
/// <param name="permits">As many as may start at once.</param>
/// <param name="count">How many permits there are.</param>
/// <param name="logger">Where it tells why a template has no snapshot.</param>
internal sealed partial class MicroVmProvisioner(
    TemplateStore templates, MicroVmLauncher launcher, SnapshotSource? snapshots, SemaphoreSlim permits, int count, ILogger logger)
{
    /// <summary>How many may start at once.</summary>
    public int Places => count;

    /// <summary>Whether there is a template of that name.</summary>
    /// <exception cref="StartupException">It is there, but a file of it is missing or unreadable.</exception>
    public bool Has(string template) => templates.Find(template) is not null;

    /// <summary>Has a template's snapshot made before its first microVMs boot, which take the other permits: all that come after it are
    /// several times faster. With one place they come first.</summary>
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
            // The pool is there all the same, and its boots say what is wrong.
            LogNotPrepared(e.Message);
        }
    }

    /// <summary>Makes one, when it has a place.</summary>
    /// <param name="template">Name of its template.</param>
    /// <param name="isAwaited">Whether clients wait: then it is not warmed up first.</param>
    /// <param name="cancellationToken">Ends it; all is undone.</param>
    /// <exception cref="StartupException">There is no such template any more.</exception>
    /// <exception cref="BootException">It did not come up.</exception>
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
