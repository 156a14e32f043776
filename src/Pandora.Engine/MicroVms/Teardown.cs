using System.Diagnostics;

namespace Pandora.Engine.MicroVms;

/// <summary>The result of one step of a teardown.</summary>
/// <param name="Resource">The resource.</param>
/// <param name="Elapsed">Duration of the step.</param>
/// <param name="IsGone">Whether a check afterwards found the resource gone from the host.</param>
/// <param name="Error">The error, or null.</param>
public sealed record Undone(HostResource Resource, TimeSpan Elapsed, bool IsGone, string? Error);

/// <summary>
/// The stack of steps that clean up one microVM. The code that acquires a resource first pushes the step that undoes it. However the
/// microVM ends, the steps run once, newest first, each with its time limit; no request can cancel them. Errors are collected, and an error
/// in one step does not stop the others.
/// </summary>
/// <param name="time">The clock of the limits.</param>
/// <param name="onRemaining">Called for each resource that remains on the host after its step.</param>
public sealed class Teardown(TimeProvider time, Action<Undone>? onRemaining = null)
{
    private static readonly TimeSpan StepLimit = TimeSpan.FromSeconds(15);
    private readonly Lock _lock = new();
    private readonly Stack<Step> _steps = new();
    private Task<IReadOnlyList<Undone>>? _urgent;
    private Task<IReadOnlyList<Undone>>? _all;

    /// <summary>Adds a resource and the step that undoes it.</summary>
    /// <param name="resource">The resource that is about to be acquired.</param>
    /// <param name="undo">Undoes the resource; does nothing when it was never acquired.</param>
    /// <param name="canWait">True for a step that <see cref="EndAsync"/> does not wait for, because it only recycles.</param>
    /// <param name="exists">Checks whether the resource exists; null to use <see cref="HostResource.Exists"/>.</param>
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

    /// <summary>
    /// Runs the steps; returns when those that cannot wait are done. It may be called any number of times, from any thread.
    /// </summary>
    public Task<IReadOnlyList<Undone>> EndAsync()
    {
        Begin();
        return _urgent!;
    }

    /// <summary>Runs the steps; returns when all are done, including those that can wait.</summary>
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

            // Newest first. The order never changes: all steps below the first that can wait also wait.
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
                // Check now, not at the end: once a slot's number is free, another microVM may soon have a namespace of that name.
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
                onRemaining?.Invoke(done);
            }
        }

        return undone;
    }

    private sealed record Step(HostResource Resource, Func<ValueTask> Undo, bool CanWait, Func<bool> Exists);
}
