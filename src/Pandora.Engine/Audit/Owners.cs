using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Vmm.Linux;

namespace Pandora.Engine.Audit;

/// <summary>Who owns what of an instance, read from records, the slots' ledger and the kernel at one moment.</summary>
internal sealed class Owners
{
    private readonly Dictionary<string, string> _ids = [];
    private readonly Dictionary<int, string> _slots = [];
    private readonly string? _server;

    /// <param name="dataDir">The instance's data directory.</param>
    /// <param name="runDirectory">The instance's run directory.</param>
    /// <param name="isServed">Whether the caller is the server.</param>
    /// <exception cref="IOException">Something could not be looked at: nobody is taken for dead for that.</exception>
    public Owners(string dataDir, string runDirectory, bool isServed)
    {
        IsServed = isServed || FindServer(dataDir);
        // Before the records: a slot that is taken meanwhile is one's or the other's.
        var slots = SlotLedger.Read(runDirectory);
        foreach (var directory in Directory.Exists(runDirectory) ? Directory.GetDirectories(runDirectory) : [])
        {
            var id = Path.GetFileName(directory);
            MicroVmRecord.TryRead(directory, out var record, out _);
            // Without a file it is being made, which takes no time, or was left; a file that cannot be read may be a living sandbox's all the same.
            var owner = record is null ? (IsServed && File.Exists(Path.Combine(directory, MicroVmRecord.FileName)) ? $"microVM {id}, whose record cannot be read" : null)
                : record.Vmm is null ? (IsServed ? $"microVM {id}, which boots" : null)
                : !IsAlive(record) ? null
                : record.Claim is not null ? $"sandbox {id}"
                : record.IsReady ? $"warm microVM {id}"
                : IsServed ? $"microVM {id}, which boots" : null;
            if (owner is not null)
            {
                _ids[id] = owner;
                if (record is not null)
                {
                    _slots[record.Slot] = owner;
                }
            }
        }

        if (IsServed)
        {
            // A slot that is said to be held must have a record, which follows it at once.
            foreach (var (slot, state) in slots.Where(s => s.Value != SlotState.Held))
            {
                _slots.TryAdd(slot, $"the server (slot {slot}, {state.ToString().ToLowerInvariant()})");
            }
        }

        _server = IsServed ? "the server" : _ids.Count > 0 ? "microVMs that outlived their server" : null;
    }

    /// <summary>Whether a server runs on the data directory.</summary>
    public bool IsServed { get; }

    /// <summary>The owner of what a microVM has; null when there is no such microVM.</summary>
    public string? OfMicroVm(string id) => _ids.GetValueOrDefault(id);

    /// <summary>The owner of what a slot has.</summary>
    public string? OfSlot(int slot) => _slots.GetValueOrDefault(slot);

    /// <summary>The owner of what all share.</summary>
    public string? OfInstance => _server;

    // Not by trying to lock: for that instant a server could not start.
    private static bool FindServer(string dataDir)
    {
        try
        {
            var lines = File.ReadAllLines(Path.Combine(dataDir, "server.pid"));
            return lines.Length > 1 && ProcessHandle.Exists(int.Parse(lines[0]), long.Parse(lines[1]));
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException or FormatException)
        {
            return false;
        }
    }

    private static bool IsAlive(MicroVmRecord record) => record.BootId == MicroVmRecord.HostBootId && ProcessHandle.Exists(record.Vmm!.Pid, record.Vmm.StartTime);
}
