namespace Pandora.Agent;

/// <summary>Waits for events of descriptors and for times, on one thread, and calls who asked for them.</summary>
internal sealed class EventLoop : IDisposable
{
    private const int MostAtOnce = 64;
    private readonly int _epoll = Linux.CreateEpoll();
    private readonly Dictionary<int, Action<uint>> _handlers = [];
    private readonly PriorityQueue<Action, long> _timers = new();
    private readonly Lock _lock = new();
    private readonly int _posted = Linux.CreateEvent();
    private List<Action> _actions = [], _taken = [];
    private bool _isStopped, _isClosed;

    /// <summary>Called when all events that were ready have been handled: for what is done once for many of them.</summary>
    public Action? Handled { get; set; }

    /// <summary>Calls a handler with the events of a descriptor, until it is removed.</summary>
    public void Add(int descriptor, uint events, Action<uint> handler)
    {
        Linux.Watch(_epoll, descriptor, events, isNew: true);
        _handlers.Add(descriptor, handler);
    }

    /// <summary>Changes the events of a descriptor that was added: at least one.</summary>
    public void Change(int descriptor, uint events) => Linux.Watch(_epoll, descriptor, events, isNew: false);

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

    /// <summary>Calls an action once, on the loop's thread. Any thread may ask for it.</summary>
    public void Post(Action action)
    {
        lock (_lock)
        {
            _actions.Add(action);
            if (_actions.Count == 1 && !_isClosed)
            {
                Linux.Signal(_posted);
            }
        }
    }

    /// <summary>Makes <see cref="Run"/> return when what is under way has been handled.</summary>
    public void Stop() => Post(() => _isStopped = true);

    /// <summary>Runs until <see cref="Stop"/>.</summary>
    public void Run()
    {
        Add(_posted, Linux.EpollIn, _ => RunPosted());
        Span<(int Descriptor, uint Events)> ready = stackalloc (int, uint)[MostAtOnce];
        while (!_isStopped)
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

    /// <summary>Closes its descriptors. What is posted afterwards is not called.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            if (!_isClosed)
            {
                _isClosed = true;
                Linux.Close(_posted);
                Linux.Close(_epoll);
            }
        }
    }

    private void RunPosted()
    {
        Linux.ClearSignal(_posted);
        lock (_lock)
        {
            (_actions, _taken) = (_taken, _actions);
        }

        foreach (var action in _taken)
        {
            action();
        }

        _taken.Clear();
    }

    private int NextTimeout() => _timers.TryPeek(out _, out var due)
        ? (int)Math.Clamp((due - Linux.Monotonic() + 999_999) / 1_000_000, 0, int.MaxValue)
        : -1;
}
