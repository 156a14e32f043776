using System.Collections.Concurrent;

namespace Pandora.Engine.Sandboxes;

/// <summary>How the newest sandboxes ended, so that who asks for one is told.</summary>
/// <param name="most">How many are remembered.</param>
/// <param name="forgotten">Told of each that is remembered no more.</param>
internal sealed class EndedSandboxes(int most, Action<string> forgotten)
{
    private readonly ConcurrentDictionary<string, SandboxEnd> _ended = new();
    private readonly ConcurrentQueue<string> _order = new();

    /// <summary>How a sandbox ended; null when that is not known.</summary>
    public SandboxEnd? Find(string id) => _ended.GetValueOrDefault(id);

    /// <summary>Remembers one.</summary>
    public void Add(string id, SandboxEnd end)
    {
        _ended[id] = end;
        _order.Enqueue(id);
        while (_order.Count > most && _order.TryDequeue(out var oldest))
        {
            _ended.TryRemove(oldest, out _);
            forgotten(oldest);
        }
    }
}
