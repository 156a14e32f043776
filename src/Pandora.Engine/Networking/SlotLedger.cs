namespace Pandora.Engine.Networking;

/// <summary>State of a slot.</summary>
public enum SlotState
{
    /// <summary>Its namespace is being made ahead of need.</summary>
    Making,

    /// <summary>It is ready and waits for a microVM.</summary>
    Ready,

    /// <summary>A microVM holds it, and the microVM's record names it.</summary>
    Held,

    /// <summary>It is being cleaned up.</summary>
    Ending,
}

/// <summary>One slot.</summary>
/// <param name="State">State of the slot.</param>
/// <param name="MicroVm">Id of the microVM that holds or last held the slot; null for a slot made ahead of need.</param>
public sealed record SlotEntry(SlotState State, string? MicroVm);

/// <summary>The slots in use, kept in the file <c>slots</c> of the run directory. An audit by another process reads the owner of each
/// namespace there, even if a microVM's record is damaged. The file is written when a slot changes, never for a claim.</summary>
public sealed class SlotLedger
{
    private readonly string _path;
    private readonly SortedDictionary<int, SlotEntry> _states = [];

    /// <param name="runDirectory">The instance's run directory.</param>
    public SlotLedger(string runDirectory) => _path = PathIn(runDirectory);

    /// <summary>Sets the state of a slot.</summary>
    /// <param name="slot">Number of the slot.</param>
    /// <param name="state">The state; null when the slot is free.</param>
    /// <param name="microVm">Id of the microVM that holds the slot; null keeps the recorded id.</param>
    public void Set(int slot, SlotState? state, string? microVm = null)
    {
        lock (_states)
        {
            if (state is { } known)
            {
                _states[slot] = new SlotEntry(known, microVm ?? (_states.TryGetValue(slot, out var before) ? before.MicroVm : null));
            }
            else
            {
                _states.Remove(slot);
            }

            Write();
        }
    }

    /// <summary>Removes all slots and the file, also that of an earlier server.</summary>
    public void Clear()
    {
        lock (_states)
        {
            _states.Clear();
            Write();
        }
    }

    /// <summary>Reads what a server wrote last; empty when there is no file.</summary>
    public static IReadOnlyDictionary<int, SlotEntry> Read(string runDirectory)
    {
        var found = new Dictionary<int, SlotEntry>();
        try
        {
            foreach (var words in File.ReadLines(PathIn(runDirectory)).Select(l => l.Split(' ')))
            {
                if (words is [var slot, var state, ..] && int.TryParse(slot, out var number)
                    && Enum.TryParse<SlotState>(state, out var known))
                {
                    found[number] = new SlotEntry(known, words.ElementAtOrDefault(2));
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new Dictionary<int, SlotEntry>();
        }

        return found;
    }

    private void Write()
    {
        try
        {
            if (_states.Count == 0)
            {
                File.Delete(_path);
                return;
            }

            File.WriteAllLines(_path + ".new", _states.Select(s => $"{s.Key} {s.Value.State} {s.Value.MicroVm}".TrimEnd()));
            File.Move(_path + ".new", _path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // On a full disk the audit does not know the slots, but a slot must still be released.
        }
    }

    private static string PathIn(string runDirectory) => Path.Combine(runDirectory, "slots");
}
