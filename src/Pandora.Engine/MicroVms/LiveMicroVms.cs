using System.Collections.Concurrent;

namespace Pandora.Engine.MicroVms;

/// <summary>
/// The microVMs of this server, from the moment that one acquires its slot until the slot is free again. The server trusts this list, not
/// the record files, which may be damaged.
/// </summary>
internal sealed class LiveMicroVms
{
    private readonly ConcurrentDictionary<string, Entry> _all = new();

    /// <summary>All microVMs, in no order.</summary>
    public IReadOnlyCollection<LiveMicroVm> List() => [.. _all.Select(e => new LiveMicroVm(e.Key, e.Value.Slot, e.Value.File?.Record))];

    /// <summary>Adds a microVM, or sets the record of one.</summary>
    public void Set(string id, int slot, MicroVmFile? file = null) => _all[id] = new Entry(slot, file);

    /// <summary>Removes a microVM of which nothing remains.</summary>
    public void Remove(string id) => _all.TryRemove(id, out _);

    /// <summary>Repairs the records whose files are damaged or gone: writes them again.</summary>
    /// <param name="repaired">Called for each repaired record, with the microVM's id and the problem.</param>
    /// <param name="failed">Called for each record that could not be read or written, with the microVM's id and the error.</param>
    public void Repair(Action<string, string> repaired, Action<string, string> failed)
    {
        foreach (var (id, entry) in _all)
        {
            try
            {
                if (entry.File?.Repair() is { } problem)
                {
                    repaired(id, problem);
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

/// <summary>One microVM of this server.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Slot">Number of its slot.</param>
/// <param name="Record">Its record, once it has one.</param>
internal sealed record LiveMicroVm(string Id, int Slot, MicroVmRecord? Record)
{
    /// <summary>Its name for people, with its state.</summary>
    public string Name => Record switch
    {
        { Claim: not null } => $"sandbox {Id}",
        { IsReady: true } => $"warm microVM {Id}",
        _ => $"microVM {Id}, which boots",
    };
}
