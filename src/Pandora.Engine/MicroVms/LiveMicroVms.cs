using System.Collections.Concurrent;

namespace Pandora.Engine.MicroVms;

/// <summary>The microVMs that this server holds, from the moment that one has a slot until that slot is free again. What the server knows
/// of what lives, it knows from here, and not from files that may be damaged.</summary>
internal sealed class LiveMicroVms
{
    private readonly ConcurrentDictionary<string, Entry> _all = new();

    /// <summary>All of them, in no order.</summary>
    public IReadOnlyCollection<LiveMicroVm> List() => [.. _all.Select(e => new LiveMicroVm(e.Key, e.Value.Slot, e.Value.File?.Record))];

    /// <summary>Adds one, or its record once it has one.</summary>
    public void Set(string id, int slot, MicroVmFile? file = null) => _all[id] = new Entry(slot, file);

    /// <summary>Removes one of which nothing is left.</summary>
    public void Remove(string id) => _all.TryRemove(id, out _);

    /// <summary>Writes the records again whose files are damaged or gone.</summary>
    /// <param name="mended">Told of each that was written, and what was wrong.</param>
    /// <param name="failed">Told of each that could not be read or written, and why.</param>
    public void Repair(Action<string, string> mended, Action<string, string> failed)
    {
        foreach (var (id, entry) in _all)
        {
            try
            {
                if (entry.File?.Repair() is { } problem)
                {
                    mended(id, problem);
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                failed(id, e.Message);
            }
        }
    }

    private sealed record Entry(int Slot, MicroVmFile? File);
}

/// <summary>One microVM that a server holds.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Slot">Number of its slot.</param>
/// <param name="Record">Its record, once it has one.</param>
internal sealed record LiveMicroVm(string Id, int Slot, MicroVmRecord? Record)
{
    /// <summary>Who it is, for people.</summary>
    public string Name => Record switch
    {
        { Claim: not null } => $"sandbox {Id}",
        { IsReady: true } => $"warm microVM {Id}",
        _ => $"microVM {Id}, which boots",
    };
}
