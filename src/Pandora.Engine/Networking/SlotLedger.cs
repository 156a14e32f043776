namespace Pandora.Engine.Networking;

/// <summary>How a slot stands.</summary>
public enum SlotState
{
    /// <summary>Its namespace is being made ahead of need.</summary>
    Making,

    /// <summary>It waits for a microVM.</summary>
    Ready,

    /// <summary>A microVM has it, whose record says so.</summary>
    Held,

    /// <summary>It is being taken down.</summary>
    Ending,
}

/// <summary>One slot.</summary>
/// <param name="State">How it stands.</param>
/// <param name="MicroVm">Id of the microVM that has it or had it last; null for one that is made ahead of need.</param>
public sealed record SlotEntry(SlotState State, string? MicroVm);

/// <summary>The slots in use, kept in the file <c>slots</c> of the run directory, so that a program that looks at the host from outside
/// knows whose each namespace is, also where a microVM's record is damaged. Written when a slot changes, never for a claim.</summary>
public sealed class SlotLedger
{
    private readonly string _path;
    private readonly SortedDictionary<int, SlotEntry> _states = [];

    /// <param name="runDirectory">The instance's run directory.</param>
    public SlotLedger(string runDirectory) => _path = PathIn(runDirectory);

    /// <summary>Notes how a slot stands; null when it is free.</summary>
    /// <param name="slot">Its number.</param>
    /// <param name="state">How it stands.</param>
    /// <param name="microVm">Id of the microVM that has it; null keeps the one that is noted.</param>
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

    /// <summary>Removes it, and what an earlier server noted.</summary>
    public void Clear()
    {
        lock (_states)
        {
            _states.Clear();
            Write();
        }
    }

    /// <summary>Reads what a server wrote last; empty when there is nothing.</summary>
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
            // A full disk makes the audit blind, and must not keep a slot from being given back.
        }
    }

    private static string PathIn(string runDirectory) => Path.Combine(runDirectory, "slots");
}
