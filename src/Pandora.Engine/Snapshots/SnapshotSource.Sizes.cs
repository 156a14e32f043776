using Microsoft.Extensions.Logging;
using Pandora.Engine.Templates;

namespace Pandora.Engine.Snapshots;

/// <summary>Bounds the snapshots of sizes: clients choose the sizes, so there may be any number of them.</summary>
internal sealed partial class SnapshotSource
{
    /// <summary>Most snapshots of a template in other sizes than its own, and most of all templates.</summary>
    public const int MostSizesOfTemplate = 4, MostSizes = 16;

    private const int MostIdleSizes = 64;
    private const long MiB = 1024 * 1024;
    private readonly HashSet<string> _making = [];
    private long _uses;

    /// <summary>The number of templates and sizes that it remembers.</summary>
    internal int KnownCount
    {
        get
        {
            lock (_lock)
            {
                return _states.Count;
            }
        }
    }

    // Under the lock.
    private SnapshotUse Use(State state, Snapshot snapshot)
    {
        SnapshotStore.Touch(snapshot, time.GetUtcNow());
        state.Users++;
        return new SnapshotUse(snapshot, () =>
        {
            lock (_lock)
            {
                state.Users--;
            }
        });
    }

    // Deletes the least recently used snapshots of sizes, so that with the new one there are no more than the bounds allow. A snapshot from
    // which a microVM is being restored is not deleted.
    private void MakeRoom(Template template)
    {
        if (!hasRoomFor(template.MemoryMiB * MiB))
        {
            throw new IOException("the disk has too little room for a snapshot of another size (PANDORA_DISK_RESERVE stays free)");
        }

        lock (_lock)
        {
            var stored = store.ListSizes().Where(v => v != template.Variant).ToList();
            // Those that are being made count, too.
            var counted = stored.Union(_making).ToHashSet();
            Shrink(MostSizesOfTemplate, v => Template.NameOf(v) == template.Name);
            Shrink(MostSizes, _ => true);
            _making.Add(template.Variant);

            void Shrink(int most, Func<string, bool> isMeant)
            {
                while (counted.Count(isMeant) >= most)
                {
                    var oldest = stored.Where(isMeant).FirstOrDefault(v => !IsInUse(v))
                        ?? throw new IOException("the snapshots of other sizes, of which there may be no more, are in use");
                    store.DeleteVariant(oldest);
                    _states.Remove(oldest);
                    stored.Remove(oldest);
                    counted.Remove(oldest);
                    LogSizeDeleted(oldest, template.Variant);
                }
            }
        }
    }

    private bool IsInUse(string variant) => _states.TryGetValue(variant, out var state) && (state.Users > 0 || state.IsWorking);

    // Under the lock. Forgets the sizes that were not used for the longest time and have no snapshot.
    private void ForgetIdleSizes()
    {
        var idle = _states.Values.Where(s => Template.IsVariantName(s.Variant) && s is { Snapshot: null, IsWorking: false }).ToList();
        foreach (var state in idle.OrderByDescending(s => s.LastUse).Skip(MostIdleSizes))
        {
            _states.Remove(state.Variant);
        }
    }

    [LoggerMessage(
        Level = LogLevel.Information, Message = "The snapshot of {Variant}, the least recently used size, is deleted for that of {Other}")]
    private partial void LogSizeDeleted(string variant, string other);
}

/// <summary>The use of a snapshot by a microVM that is restored from it.</summary>
/// <param name="snapshot">The snapshot.</param>
/// <param name="end">Ends the use.</param>
internal sealed class SnapshotUse(Snapshot snapshot, Action end) : IDisposable
{
    private Action? _end = end;

    /// <summary>The snapshot.</summary>
    public Snapshot Snapshot => snapshot;

    /// <inheritdoc/>
    public void Dispose() => Interlocked.Exchange(ref _end, null)?.Invoke();
}
