using System.Collections.Concurrent;

namespace Pandora.Engine.Sandboxes;

/// <summary>Remembers how the newest ended sandboxes ended, to answer clients that ask for one of them.</summary>
/// <param name="most">Most sandboxes to remember.</param>
/// <param name="forgotten">Called with the id of each sandbox that is no longer remembered.</param>
internal sealed class EndedSandboxes(int most, Action<string> forgotten)
{
    private readonly ConcurrentDictionary<string, (string Project, SandboxEnd End, IReadOnlyList<int> PublicPorts)> _ended = new();
    private readonly ConcurrentQueue<string> _order = new();

    /// <summary>Finds how a sandbox ended; null when that is not known.</summary>
    public (string Project, SandboxEnd End, IReadOnlyList<int> PublicPorts)? Find(string id) =>
        _ended.TryGetValue(id, out var ended) ? ended : null;

    /// <summary>Remembers how a sandbox ended.</summary>
    public void Add(string id, string project, SandboxEnd end, IReadOnlyList<int> publicPorts)
    {
        _ended[id] = (project, end, publicPorts);
        _order.Enqueue(id);
        while (_order.Count > most && _order.TryDequeue(out var oldest))
        {
            _ended.TryRemove(oldest, out _);
            forgotten(oldest);
        }
    }
}
