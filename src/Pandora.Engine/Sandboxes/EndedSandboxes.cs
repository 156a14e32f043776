using System.Collections.Concurrent;
using Pandora.Engine.MicroVms;

namespace Pandora.Engine.Sandboxes;

/// <summary>Remembers how the newest ended sandboxes ended, to answer clients that ask for one of them.</summary>
/// <param name="most">Most sandboxes to remember.</param>
/// <param name="forgotten">Called with the id of each sandbox that is no longer remembered.</param>
internal sealed class EndedSandboxes(int most, Action<string> forgotten)
{
    private readonly ConcurrentDictionary<string, Ended> _ended = new();
    private readonly ConcurrentQueue<string> _order = new();

    /// <summary>Finds how a sandbox ended; null when that is not known.</summary>
    public Ended? Find(string id) => _ended.GetValueOrDefault(id);

    /// <summary>Remembers how a sandbox ended.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="project">Its project.</param>
    /// <param name="end">How it ended.</param>
    /// <param name="claim">Its claim; null when that is not known.</param>
    public void Add(string id, string project, SandboxEnd end, ClaimRecord? claim)
    {
        _ended[id] = new Ended(project, end, claim?.PublicPorts ?? [], [.. claim?.Annotations?.Keys ?? []]);
        _order.Enqueue(id);
        while (_order.Count > most && _order.TryDequeue(out var oldest))
        {
            _ended.TryRemove(oldest, out _);
            forgotten(oldest);
        }
    }

    /// <summary>What is remembered of a sandbox.</summary>
    /// <param name="Project">Its project.</param>
    /// <param name="End">How it ended.</param>
    /// <param name="PublicPorts">The ports whose previews needed neither key nor link.</param>
    /// <param name="Annotations">The names under which a front end kept something with it.</param>
    public sealed record Ended(string Project, SandboxEnd End, IReadOnlyList<int> PublicPorts, IReadOnlyList<string> Annotations);
}
