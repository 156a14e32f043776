using System.Diagnostics;

namespace Pandora.Engine.MicroVms;

/// <summary>One thing undone.</summary>
/// <param name="Resource">What.</param>
/// <param name="Elapsed">How long it took.</param>
/// <param name="IsGone">Whether the host no longer had it then: looked up, not assumed.</param>
/// <param name="Error">What went wrong, or null.</param>
public sealed record Undone(HostResource Resource, TimeSpan Elapsed, bool IsGone, string? Error);

/// <summary>
/// The stack of things that a microVM must undo. Each resource pushes its undo as it is acquired; however the microVM ends, the stack is
/// run once, newest first, on its own time limit and never on a request's token. Every error is gathered and none stops the rest.
/// </summary>
/// <param name="time">For the limits.</param>
/// <param name="left">Told of each resource that is left, whoever ends it.</param>
public sealed class Teardown(TimeProvider time, Action<Undone>? left = null)
{
    private static readonly TimeSpan StepLimit = TimeSpan.FromSeconds(15);
    private readonly Lock _lock = new();
    private readonly Stack<Step> _steps = new();
    private Task<IReadOnlyList<Undone>>? _urgent;
    private Task<IReadOnlyList<Undone>>? _all;

    /// <summary>Adds a resource and how to undo it.</summary>
    /// <param name="resource">What will exist.</param>
    /// <param name="undo">Undoes it; does nothing when it never came to be.</param>
    /// <param name="canWait">True for what may go on behind the caller of <see cref="EndAsync"/>: recycling, not ending.</param>
    /// <param name="exists">Looks whether it is there; null where the resource itself can tell.</param>
    public void Push(HostResource resource, Func<ValueTask> undo, bool canWait = false, Func<bool>? exists = null)
    {
        lock (_lock)
        {
            if (_urgent is not null)
            {
                throw new InvalidOperationException($"'{resource}' was acquired after the teardown began");
            }

            _steps.Push(new Step(resource, undo, canWait, exists ?? resource.Exists));
        }
    }

    /// <summary>The resources that are held, oldest first.</summary>
    public IReadOnlyList<HostResource> Resources
    {
        get
        {
            lock (_lock)
            {
                return [.. _steps.Reverse().Select(s => s.Resource)];
            }
        }
    }

    /// <summary>Ends it: returns when all that cannot wait is undone. Safe to call any number of times, from anywhere.</summary>
    public Task<IReadOnlyList<Undone>> EndAsync()
    {
        Begin();
        return _urgent!;
    }

    /// <summary>Ends it and returns when everything is undone, what can wait included.</summary>
    public Task<IReadOnlyList<Undone>> CompleteAsync()
    {
        Begin();
        return _all!;
    }

    private void Begin()
    {
        lock (_lock)
        {
            if (_urgent is not null)
            {
                return;
            }

            // Newest first. From the first that can wait, everything below waits with it: the order is the promise.
            var steps = _steps.ToArray();
            var urgent = steps.TakeWhile(s => !s.CanWait).ToArray();
            _urgent = Task.Run(() => RunAsync(urgent));
            _all = Task.Run(async () =>
            {
                IReadOnlyList<Undone> first = await _urgent;
                return (IReadOnlyList<Undone>)[.. first, .. await RunAsync(steps[urgent.Length..])];
            });
        }
    }

    private async Task<IReadOnlyList<Undone>> RunAsync(IReadOnlyList<Step> steps)
    {
        var undone = new List<Undone>();
        foreach (var step in steps)
        {
            var start = Stopwatch.GetTimestamp();
            string? error = null;
            var isGone = false;
            try
            {
                await step.Undo().AsTask().WaitAsync(StepLimit, time);
                // Looked up before anything below is undone: a slot's number, once free, is soon another's namespace.
                isGone = !step.Exists();
            }
            catch (Exception e)
            {
                error = e.Message;
            }

            var done = new Undone(step.Resource, Stopwatch.GetElapsedTime(start), isGone, error);
            undone.Add(done);
            if (!done.IsGone)
            {
                left?.Invoke(done);
            }
        }

        return undone;
    }

    private sealed record Step(HostResource Resource, Func<ValueTask> Undo, bool CanWait, Func<bool> Exists);
}
