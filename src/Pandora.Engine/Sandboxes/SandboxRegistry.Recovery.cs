using System.Collections.Concurrent;
using Pandora.Engine.MicroVms;

namespace Pandora.Engine.Sandboxes;

// What an earlier server left: each of its sandboxes is undecided until it is taken over or known to be gone.
public sealed partial class SandboxRegistry
{
    private readonly ConcurrentDictionary<string, MicroVmRecord> _undecided = new();

    /// <summary>Whether something that an earlier server left is still being taken over.</summary>
    public bool IsRecovering => !_isOpen || !_undecided.IsEmpty;

    /// <summary>Whether claims are served.</summary>
    public bool IsOpen => _isOpen && !_node.IsClosed;

    /// <summary>
    /// Says which sandboxes an earlier server left. They count, and a client that asks for one has to wait until it is decided.
    /// </summary>
    internal void Expect(IEnumerable<MicroVmRecord> records)
    {
        foreach (var record in records.Where(r => r.Claim is not null))
        {
            _count.Add();
            _undecided[record.Id] = record;
        }
    }

    /// <summary>Takes over a sandbox of an earlier server that was expected. Its idle clock starts again.</summary>
    internal void Adopt(MicroVm microVm)
    {
        var sandbox = Register(microVm);
        if (sandbox.Claim is { IdempotencyKey: { } key, RequestHash: { } hash })
        {
            _keys.Add(key, hash, new CreatedSandbox(sandbox, IsWarm: true, TimeSpan.Zero));
        }

        _undecided.TryRemove(microVm.Id, out _);
    }

    /// <summary>Remembers that a microVM of an earlier server is gone.</summary>
    internal void RecordLost(string id, string reason)
    {
        _ended.Add(id, new SandboxEnd(EndReason.Died, $"it did not outlive a restart of the server: {reason}", _time.GetUtcNow()));
        if (_undecided.TryRemove(id, out _))
        {
            _count.Remove();
        }
    }

    /// <summary>Lets clients in: what an earlier server left is known, and each of it is decided by itself.</summary>
    internal void Open() => _isOpen = true;

    private void MustBeRecovered()
    {
        if (!_isOpen)
        {
            throw new PandoraException(
                PandoraError.Recovering, "the server has just started and takes over what the last one left: try again in a second");
        }
    }

    private static PandoraException IsUndecided(string what) =>
        new(PandoraError.Recovering, $"the server has just started, and whether {what} lives on is not known yet: try again in a second");
}
