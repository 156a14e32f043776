using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Admission;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Projects;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Sandboxes;

// The sandboxes of an earlier server: each is undecided until it is adopted or known to be lost.
public sealed partial class SandboxRegistry
{
    private readonly ConcurrentDictionary<string, MicroVmRecord> _undecided = new();

    /// <summary>Whether the server still recovers sandboxes of an earlier server.</summary>
    public bool IsRecovering => !_isOpen || !_undecided.IsEmpty;

    /// <summary>Whether the server accepts claims.</summary>
    public bool IsOpen => _isOpen && !_node.IsClosed;

    /// <summary>
    /// Registers the sandboxes of an earlier server as undecided. They count, and a client that asks for one is answered when it is
    /// decided.
    /// </summary>
    internal void Expect(IEnumerable<MicroVmRecord> records)
    {
        foreach (var record in records.Where(r => r.Claim is not null))
        {
            _admissions.AddExisting(record.Claim!.ProjectName, record.Size ?? MicroVmSize.OfUnknown);
            _undecided[record.Id] = record;
        }
    }

    /// <summary>Adopts an expected sandbox of an earlier server. Its idle clock starts again.</summary>
    internal void Adopt(MicroVm microVm)
    {
        var sandbox = Register(microVm, isAdopted: true);
        if (sandbox.Claim is { IdempotencyKey: { } key, RequestHash: { } hash })
        {
            _keys.Add((sandbox.Project, key), hash, new CreatedSandbox(sandbox, IsWarm: true, TimeSpan.Zero));
        }

        _undecided.TryRemove(microVm.Id, out _);
        _ = EngineTracing.Detach(() => TakeUpProcessesAsync(sandbox));
    }

    private async Task TakeUpProcessesAsync(Sandbox sandbox)
    {
        try
        {
            if (await sandbox.TakeUpProcessesAsync() is var killed and > 0)
            {
                LogKilled(killed, sandbox.Id);
            }
        }
        catch (Exception e)
        {
            LogNotTakenUp(sandbox.Id, e.Message);
        }
    }

    /// <summary>Records that a microVM of an earlier server is lost.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="reason">Why.</param>
    /// <param name="record">Its record; null when that cannot be read.</param>
    internal void RecordLost(string id, string reason, MicroVmRecord? record)
    {
        // A record that cannot be read names no project.
        _ended.Add(id, record?.Claim?.ProjectName ?? Project.DefaultName, new SandboxEnd(
            EndReason.Died, $"it did not survive a restart of the server: {reason}", _time.GetUtcNow())
        {
            // Its guest may have been asked, and said why not.
            HasGuestWords = true,
        }, record?.Claim);
        if (_undecided.TryRemove(id, out _))
        {
            var size = record!.Size ?? MicroVmSize.OfUnknown;
            _admissions.Dismiss(size);
            _admissions.Release(record.Claim!.ProjectName, size);
        }

        if (record is null or { Claim: not null })
        {
            _journal.Lost(id, record, EndReason.Died);
        }
    }

    /// <summary>Accepts clients. The sandboxes of an earlier server are known by now, and each is decided separately.</summary>
    internal void Open() => _isOpen = true;

    private void MustBeRecovered()
    {
        if (!_isOpen)
        {
            throw new PandoraException(
                PandoraError.Recovering, "the server has just started and recovers the sandboxes of the last one: try again in a second");
        }
    }

    private static PandoraException IsUndecided(string subject) =>
        new(
            PandoraError.Recovering,
            $"the server has just started, and whether {subject} lives on is not known yet: try again in a second");

    [LoggerMessage(
        Level = LogLevel.Information,
        Message = "{Count} commands of sandbox {SandboxId}, which clients of the last server waited for, were killed: no client came back")]
    private partial void LogKilled(int count, string sandboxId);

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "The processes of sandbox {SandboxId} could not be taken up: {Reason}. They run until the sandbox ends")]
    private partial void LogNotTakenUp(string sandboxId, string reason);
}
