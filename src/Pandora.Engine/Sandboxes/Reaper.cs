using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Sandboxes;

/// <summary>Ends, every second, the sandboxes that are idle for too long or too old, until it is disposed.</summary>
public sealed class Reaper(SandboxRegistry sandboxes, TimeProvider time, ILogger<Reaper> logger) : IAsyncDisposable
{
    private readonly PeriodicWork _work = new("The reaper", TimeSpan.FromSeconds(1), _ => sandboxes.ReapAsync(), time, logger);

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _work.DisposeAsync();
}
