namespace Pandora.Engine.Pools;

/// <summary>
/// The claims that wait for a microVM of one pool: a queue for each project. The projects are served in turn, and the next one is the
/// project that has gone without a microVM for the longest time. So the single claim of one project does not wait behind the hundred of
/// another. Projects without a waiting claim are remembered for <see cref="Memory"/>: for their turn, and because the pool keeps its last
/// microVM for them. Not thread-safe: the pool calls it under its lock.
/// </summary>
/// <param name="time">The clock of the memory.</param>
internal sealed class WaitingClaims(TimeProvider time)
{
    /// <summary>How long a project without a waiting claim is remembered.</summary>
    public static readonly TimeSpan Memory = TimeSpan.FromMinutes(10);

    /// <summary>Most projects without a waiting claim that are remembered; the one that claimed last is remembered longest.</summary>
    public const int MaxRemembered = 1000;

    private readonly Dictionary<string, Line> _lines = [];
    private readonly LinkedList<Line> _idle = [];
    private readonly SortedSet<Line> _waiting = new(
        Comparer<Line>.Create((a, b) => (a.LastTurn, a.Number).CompareTo((b.LastTurn, b.Number))));
    private long _lineCount;
    private long _turn;

    /// <summary>The number of claims that wait.</summary>
    public int Count { get; private set; }

    /// <summary>The project whose turn it is; null when no claim waits.</summary>
    public string? NextProject => _waiting.Min?.Project;

    /// <summary>The number of projects that are known: those that wait, and those that are remembered.</summary>
    public int ProjectCount => _lines.Count;

    /// <summary>Whether a project claimed within <see cref="Memory"/> and has no waiting claim.</summary>
    public bool HasIdleProject
    {
        get
        {
            ForgetOld();
            return _idle.Count > 0;
        }
    }

    /// <summary>The number of claims of a project that wait.</summary>
    public int CountOf(string project) => _lines.TryGetValue(project, out var line) ? line.Claims.Count : 0;

    /// <summary>Notes that a project without a waiting claim got a microVM.</summary>
    public void NoteServed(string project)
    {
        var line = FindOrAdd(project);
        line.LastTurn = ++_turn;
        Rest(line);
    }

    /// <summary>Adds a claim behind those of its project.</summary>
    public WaitingClaim Add(string project)
    {
        var line = FindOrAdd(project);
        if (line.Claims.Count == 0)
        {
            line.IdlePlace.List?.Remove(line.IdlePlace);
            _waiting.Add(line);
        }

        var claim = new WaitingClaim(project);
        claim.Place = line.Claims.AddLast(claim);
        Count++;
        return claim;
    }

    /// <summary>Removes the claim whose turn it is. There must be one.</summary>
    public WaitingClaim TakeNext()
    {
        var line = _waiting.Min!;
        var claim = line.Claims.First!.Value;
        // The set is ordered by the last turn: the line leaves it for the change.
        _waiting.Remove(line);
        line.LastTurn = ++_turn;
        _waiting.Add(line);
        Remove(claim);
        return claim;
    }

    /// <summary>
    /// Removes the newest claim of the project with the most waiting claims, to make room for a claim of a project that has fewer.
    /// </summary>
    /// <returns>Null when no project has more of them than the given one.</returns>
    public WaitingClaim? TakeNewestOfLongest(string project)
    {
        var longest = _waiting.MaxBy(l => l.Claims.Count);
        if (longest is null || longest.Claims.Count <= CountOf(project))
        {
            return null;
        }

        var newest = longest.Claims.Last!.Value;
        Remove(newest);
        return newest;
    }

    /// <summary>Removes a claim.</summary>
    /// <returns>False when it no longer waits.</returns>
    public bool Remove(WaitingClaim claim)
    {
        if (claim.Place.List is null)
        {
            return false;
        }

        var line = _lines[claim.Project];
        line.Claims.Remove(claim.Place);
        Count--;
        if (line.Claims.Count == 0)
        {
            _waiting.Remove(line);
            Rest(line);
        }

        return true;
    }

    private Line FindOrAdd(string project)
    {
        ForgetOld();
        if (!_lines.TryGetValue(project, out var line))
        {
            line = new Line(project, ++_lineCount);
            _lines.Add(project, line);
        }

        return line;
    }

    // Makes the project the last of the idle ones, which are in the order in which they became idle.
    private void Rest(Line line)
    {
        line.IdleSince = time.GetTimestamp();
        line.IdlePlace.List?.Remove(line.IdlePlace);
        _idle.AddLast(line.IdlePlace);
        if (_idle.Count > MaxRemembered)
        {
            ForgetOldest();
        }
    }

    private void ForgetOld()
    {
        while (_idle.First is { } oldest && time.GetElapsedTime(oldest.Value.IdleSince) >= Memory)
        {
            ForgetOldest();
        }
    }

    private void ForgetOldest()
    {
        _lines.Remove(_idle.First!.Value.Project);
        _idle.RemoveFirst();
    }

    // A project, with the claims of it that wait. It is among the waiting or among the idle projects.
    private sealed class Line
    {
        public Line(string project, long number)
        {
            (Project, Number) = (project, number);
            IdlePlace = new LinkedListNode<Line>(this);
        }

        public string Project { get; }

        // Its order among the projects that had no turn yet.
        public long Number { get; }

        // Its last microVM was the pool's how many'th; 0 when it got none.
        public long LastTurn { get; set; }

        public LinkedList<WaitingClaim> Claims { get; } = [];

        public LinkedListNode<Line> IdlePlace { get; }

        public long IdleSince { get; set; }
    }
}
