namespace Pandora.Agent;

/// <summary>Waits for events of descriptors and for times, on one thread, and calls who asked for them.</summary>
internal sealed class EventLoop
{
    private const int MostAtOnce = 64;
    private readonly int _epoll = Linux.CreateEpoll();
    private readonly Dictionary<int, Action<uint>> _handlers = [];
    private readonly PriorityQueue<Action, long> _timers = new();

    /// <summary>Called when all events that were ready have been handled: for what is done once for many of them.</summary>
    public Action? Handled { get; set; }

    /// <summary>Calls a handler with the events of a descriptor, until it is removed.</summary>
    public void Add(int descriptor, uint events, Action<uint> handler)
    {
        Linux.Watch(_epoll, descriptor, events, isNew: true);
        _handlers.Add(descriptor, handler);
    }

    /// <summary>Removes a descriptor, which must be open still.</summary>
    public void Remove(int descriptor)
    {
        if (_handlers.Remove(descriptor))
        {
            Linux.Watch(_epoll, descriptor, 0, isNew: false);
        }
    }

    /// <summary>Calls an action once, after a time. It cannot be taken back, so it must look whether it is still wanted.</summary>
    /// <param name="milliseconds">At most about 290 years.</param>
    /// <param name="action">The action.</param>
    public void After(long milliseconds, Action action) =>
        _timers.Enqueue(action, Linux.Monotonic() + Math.Min(milliseconds, long.MaxValue / 4_000_000) * 1_000_000);

    /// <summary>Runs for ever.</summary>
    public void Run()
    {
        Span<(int Descriptor, uint Events)> ready = stackalloc (int, uint)[MostAtOnce];
        while (true)
        {
            var count = Linux.Wait(_epoll, ready, NextTimeout());
            foreach (var (descriptor, events) in ready[..count])
            {
                // An earlier handler of this round may have removed it.
                if (_handlers.TryGetValue(descriptor, out var handler))
                {
                    handler(events);
                }
            }

            while (_timers.TryPeek(out var action, out var due) && due <= Linux.Monotonic())
            {
                _timers.Dequeue();
                action();
            }

            Handled?.Invoke();
        }
    }

    private int NextTimeout() => _timers.TryPeek(out _, out var due)
        ? (int)Math.Clamp((due - Linux.Monotonic() + 999_999) / 1_000_000, 0, int.MaxValue)
        : -1;
}
