using Pandora.Engine.Admission;

namespace Pandora.Engine.Pools;

/// <summary>The right to claim from a pool. The pool is not disposed before the lease.</summary>
/// <param name="pool">The pool.</param>
/// <param name="size">Size of the microVMs that it starts; null when its template was removed.</param>
/// <param name="isRequested">Whether the client asked for that size, and another one will not do.</param>
/// <param name="end">Ends the lease; null when the pool lives as long as the server.</param>
internal sealed class PoolLease(WarmPool pool, MicroVmSize? size, bool isRequested = false, Action? end = null) : IDisposable
{
    private Action? _end = end;

    /// <summary>The pool.</summary>
    public WarmPool Pool => pool;

    /// <summary>Size of the microVMs that the pool starts; null when its template was removed. A microVM that was warm before its
    /// template was built again may have another size: <see cref="MicroVms.MicroVm.Size"/>.</summary>
    public MicroVmSize? Size => size;

    /// <summary>Whether the pool is that of another size than the template's, which keeps no microVM warm: a claim waits.</summary>
    public bool IsVariant { get; } = end is not null;

    /// <summary>Claims a microVM as <see cref="WarmPool.ClaimAsync"/> does, in the size that the client asked for.</summary>
    /// <param name="project">Name of the project that claims.</param>
    /// <param name="timeout">Longest wait.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="PandoraException">None became ready in time, or the pool is closing.</exception>
    public async ValueTask<ClaimedMicroVm> ClaimAsync(string project, TimeSpan timeout, CancellationToken cancellationToken)
    {
        while (true)
        {
            var claimed = await pool.ClaimAsync(project, timeout, cancellationToken);
            if (!isRequested || claimed.MicroVm.Size is not { } started || started == size)
            {
                return claimed;
            }

            // It is of a build of the template that had another size.
            _ = claimed.MicroVm.Teardown.CompleteAsync();
            if (!claimed.IsWarm)
            {
                throw new PandoraException(PandoraError.PoolEmpty, "the template was built again with another size: try again");
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Interlocked.Exchange(ref _end, null)?.Invoke();
}
