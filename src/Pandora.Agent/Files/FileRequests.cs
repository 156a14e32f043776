namespace Pandora.Agent.Files;

/// <summary>Runs requests for files, each on a thread of its own, which has the rights of the request's user.</summary>
/// <param name="loop">The loop that serves the streams.</param>
internal sealed class FileRequests(EventLoop loop)
{
    /// <summary>Most requests at once.</summary>
    public const int MostThreads = 32;

    private const int StackSize = 256 * 1024;
    private readonly HashSet<RequestPipe> _pipes = [];

    /// <summary>The loop that serves the streams.</summary>
    public EventLoop Loop => loop;

    /// <summary>Number of requests that run.</summary>
    public int Running
    {
        get
        {
            lock (_pipes)
            {
                return _pipes.Count;
            }
        }
    }

    /// <summary>Runs work on a thread of its own. It is called on the loop's thread.</summary>
    /// <param name="pipe">The way between the work and the loop.</param>
    /// <param name="work">The work.</param>
    /// <returns>False when as many run as may, or the guest has no memory for one more.</returns>
    public bool TryRun(RequestPipe pipe, Action work)
    {
        if (Running >= MostThreads)
        {
            return false;
        }

        Add(pipe);
        try
        {
            new Thread(() => Run(pipe, work), StackSize) { IsBackground = true }.Start();
            return true;
        }
        catch (OutOfMemoryException)
        {
            Remove(pipe);
            return false;
        }
    }

    /// <summary>Ends the work of all requests, and waits for that, so that nothing half-written is left.</summary>
    /// <param name="milliseconds">Longest wait.</param>
    public void CancelAll(int milliseconds)
    {
        lock (_pipes)
        {
            foreach (var pipe in _pipes)
            {
                pipe.Cancel();
            }
        }

        const int Step = 10;
        for (var waited = 0; waited < milliseconds && Running > 0; waited += Step)
        {
            Linux.Pause(Step);
        }
    }

    private void Run(RequestPipe pipe, Action work)
    {
        Identity.LeavePrecedence();
        work();
        Remove(pipe);
    }

    private void Add(RequestPipe pipe)
    {
        lock (_pipes)
        {
            _pipes.Add(pipe);
        }
    }

    private void Remove(RequestPipe pipe)
    {
        lock (_pipes)
        {
            _pipes.Remove(pipe);
        }
    }
}
