using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Processes;

/// <summary>The processes that the agent has started, and the ends of the last of them.</summary>
internal sealed class ProcessTable(EventLoop loop)
{
    private const int MostEnded = 1000;
    private readonly Dictionary<string, GuestProcess> _processes = [];
    private readonly Queue<GuestProcess> _ended = new();
    private long _started;

    /// <summary>All processes that are known, in the order in which they were started.</summary>
    public IReadOnlyCollection<GuestProcess> All => [.. _processes.Values.OrderBy(p => p.Number)];

    /// <summary>Starts a process.</summary>
    /// <exception cref="RequestFailedException">It could not be started.</exception>
    public GuestProcess Start(StartRequest request)
    {
        if (_processes.ContainsKey(request.Id))
        {
            throw new RequestFailedException(FailureKind.Protocol, $"the process '{request.Id}' exists already");
        }

        if (request.Id.Any(c => !char.IsAsciiLetterOrDigit(c)))
        {
            throw new RequestFailedException(FailureKind.Protocol, "an id consists of letters and digits");
        }

        var process = new GuestProcess(loop, request, Keep) { Number = ++_started };
        _processes.Add(request.Id, process);
        return process;
    }

    /// <summary>Finds a process.</summary>
    /// <exception cref="RequestFailedException">It is not known.</exception>
    public GuestProcess Get(string id) => _processes.TryGetValue(id, out var process)
        ? process
        : throw new RequestFailedException(FailureKind.Process, $"there is no process '{id}'");

    /// <summary>Forgets a process that has ended, with its output.</summary>
    public void Forget(GuestProcess process)
    {
        if (process.End is not null && _processes.Remove(process.Id))
        {
            process.Output.Drop();
        }
    }

    // The ends of the last processes are kept; those before are forgotten.
    private void Keep(GuestProcess process)
    {
        _ended.Enqueue(process);
        while (_ended.Count > MostEnded || (_ended.Count > 0 && !_processes.ContainsKey(_ended.Peek().Id)))
        {
            Forget(_ended.Dequeue());
        }

        if (OutputLog.IsMemoryTight)
        {
            // Their ends stay; their output goes, the oldest first. What a reader still takes stays.
            foreach (var old in _ended.Where(p => !p.HasReader))
            {
                old.Output.Drop();
                if (!OutputLog.IsMemoryTight)
                {
                    break;
                }
            }
        }
    }
}
