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

/// <summary>The slots in use, kept in the file <c>slots</c> of the run directory, so that whoever looks at the host from outside knows whose each namespace is. Written when a slot changes, never for a claim.</summary>
public sealed class SlotLedger
{
    private readonly string _path;
    private readonly SortedDictionary<int, SlotState> _states = [];

    /// <param name="runDirectory">The instance's run directory.</param>
    public SlotLedger(string runDirectory) => _path = PathIn(runDirectory);

    /// <summary>Notes how a slot stands; null when it is free.</summary>
    public void Set(int slot, SlotState? state)
    {
        lock (_states)
        {
            if (state is { } known)
            {
                _states[slot] = known;
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
    public static IReadOnlyDictionary<int, SlotState> Read(string runDirectory)
    {
        try
        {
            return File.ReadLines(PathIn(runDirectory)).Select(l => l.Split(' ')).Where(p => p.Length == 2 && int.TryParse(p[0], out _) && Enum.TryParse<SlotState>(p[1], out _))
                .ToDictionary(p => int.Parse(p[0]), p => Enum.Parse<SlotState>(p[1]));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return new Dictionary<int, SlotState>();
        }
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

            File.WriteAllLines(_path + ".new", _states.Select(s => $"{s.Key} {s.Value}"));
            File.Move(_path + ".new", _path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A full disk makes the audit blind, and must not keep a slot from being given back.
        }
    }

    private static string PathIn(string runDirectory) => Path.Combine(runDirectory, "slots");
}
