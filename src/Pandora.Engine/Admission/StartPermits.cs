namespace Pandora.Engine.Admission;

/// <summary>
/// Permits to start microVMs: so many may start at once. Starts that wait for a permit are served by project in turn, so that one project's
/// burst does not keep the single start of another waiting.
/// </summary>
/// <param name="count">The number of permits.</param>
internal sealed class StartPermits(int count)
{
    /// <summary>Stands for a start that no project waits for. Such starts have a turn like a project's.</summary>
    public const string NoProject = "";

    private readonly Lock _lock = new();
    private readonly LinkedList<Line> _lines = [];
    private int _free = count;

    /// <summary>The number of permits.</summary>
    public int Count { get; } = count;

    /// <summary>The number of permits that no start has.</summary>
    public int FreeCount
    {
        get
        {
            lock (_lock)
            {
                return _free;
            }
        }
    }

    /// <summary>Waits for a permit. The place in the line is taken before this returns.</summary>
    /// <param name="project">The project that waits for the start.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public async Task WaitAsync(string project, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (Ask(project) is not { } permit)
        {
            return;
        }

        try
        {
            await permit.Task.WaitAsync(cancellationToken);
        }
        catch (OperationCanceledException)
        {
            if (!Withdraw(project, permit))
            {
                // It came at this very moment.
                Release();
            }

            throw;
        }
    }

    /// <summary>Gives a permit back: the next start gets it.</summary>
    public void Release()
    {
        lock (_lock)
        {
            if (_lines.First is not { } next)
            {
                _free++;
                return;
            }

            // The last in turn, if more of its starts wait.
            _lines.Remove(next);
            var permit = next.Value.Permits.First!.Value;
            next.Value.Permits.RemoveFirst();
            if (next.Value.Permits.Count > 0)
            {
                _lines.AddLast(next);
            }

            permit.SetResult();
        }
    }

    // Null when a permit was free.
    private TaskCompletionSource? Ask(string project)
    {
        lock (_lock)
        {
            if (_free > 0)
            {
                _free--;
                return null;
            }

            var line = _lines.FirstOrDefault(l => l.Project == project) ?? _lines.AddLast(new Line(project, [])).Value;
            return line.Permits.AddLast(new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Value;
        }
    }

    private bool Withdraw(string project, TaskCompletionSource permit)
    {
        lock (_lock)
        {
            var line = _lines.FirstOrDefault(l => l.Project == project);
            if (line?.Permits.Remove(permit) != true)
            {
                return false;
            }

            if (line.Permits.Count == 0)
            {
                _lines.Remove(line);
            }

            return true;
        }
    }

    private sealed record Line(string Project, LinkedList<TaskCompletionSource> Permits);
}
