using System.Net;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Linux;
using Pandora.Vmm.Host;

namespace Pandora.Engine.Recovery;

/// <summary>Who owns what of an instance at one moment: as the server knows it that audits itself, else from records, the slots' ledger and
/// the kernel.</summary>
internal sealed class Owners
{
    private readonly Dictionary<string, string> _ids = [];
    private readonly Dictionary<int, string> _slots = [];
    private readonly Dictionary<string, string> _addresses = [];
    private readonly string? _server;
    private readonly HostNames _names;

    /// <param name="dataDir">The instance's data directory.</param>
    /// <param name="names">The instance's names.</param>
    /// <param name="live">What the calling server holds; null for a caller that is not the server.</param>
    /// <exception cref="IOException">Something could not be looked at: nobody is taken for dead for that.</exception>
    public Owners(string dataDir, HostNames names, LiveMicroVms? live)
    {
        _names = names;
        IsServed = live is not null || FindServer(dataDir);
        // Before the microVMs: a slot that is taken meanwhile is one's or the other's.
        var slots = SlotLedger.Read(names.RunDirectory);
        if (live is not null)
        {
            foreach (var microVm in live.List())
            {
                Add(microVm.Id, microVm.Name, microVm.Slot, microVm.Record?.Address);
            }
        }
        else
        {
            foreach (var directory in Directory.Exists(names.RunDirectory) ? Directory.GetDirectories(names.RunDirectory) : [])
            {
                AddFromOutside(directory, slots);
            }
        }

        if (IsServed)
        {
            // A slot that is said to be held must have a microVM, which follows it at once.
            foreach (var (slot, entry) in slots.Where(s => s.Value.State != SlotState.Held))
            {
                _slots.TryAdd(slot, $"the server (slot {slot}, {entry.State.ToString().ToLowerInvariant()})");
            }
        }

        if (IsServed)
        {
            _server = "the server";
        }
        else if (_ids.Count > 0)
        {
            _server = "microVMs that outlived their server";
        }
    }

    /// <summary>Whether a server runs on the data directory.</summary>
    public bool IsServed { get; }

    /// <summary>The owner of what a microVM has; null when there is no such microVM.</summary>
    public string? OfMicroVm(string id) => _ids.GetValueOrDefault(id);

    /// <summary>The owner of what a slot has.</summary>
    public string? OfSlot(int slot) => _slots.GetValueOrDefault(slot);

    /// <summary>The owner of what the kernel tracks for a slot's address.</summary>
    public string? OfAddress(IPAddress address) => _addresses.GetValueOrDefault(address.ToString());

    /// <summary>The owner of what all share.</summary>
    public string? OfInstance => _server;

    private void Add(string id, string owner, int? slot, string? address)
    {
        _ids[id] = owner;
        if (slot is { } number)
        {
            _slots[number] = owner;
        }

        if (address is not null)
        {
            _addresses[address] = owner;
        }
    }

    private void AddFromOutside(string directory, IReadOnlyDictionary<int, SlotEntry> slots)
    {
        var id = Path.GetFileName(directory);
        if (MicroVmRecord.TryRead(directory, out var record, out _))
        {
            if (FindOwner(record) is { } owner)
            {
                Add(id, owner, record.Slot, record.Address);
            }

            return;
        }

        // Its file is damaged or not there. It may be a living sandbox's all the same: then its VMM runs, in the namespace of its slot.
        using var vmm = VmmProcess.Find(directory, id);
        if (vmm is null && !(IsServed && File.Exists(Path.Combine(directory, MicroVmRecord.FileName))))
        {
            return;
        }

        var name = $"microVM {id}, whose record cannot be read";
        Add(id, name, slots.Where(s => s.Value.MicroVm == id).Select(s => (int?)s.Key).FirstOrDefault(), null);
        foreach (var slot in slots.Keys.Where(s => vmm is not null && SlotNamespaces.IsIn(vmm.Pid, $"{_names.NamespacePrefix}{s}")))
        {
            Add(id, name, slot, null);
        }
    }

    private string? FindOwner(MicroVmRecord record)
    {
        if (record.Vmm is not null && !IsAlive(record))
        {
            return null;
        }

        if (record is { Vmm: not null, Claim: not null })
        {
            return $"sandbox {record.Id}";
        }

        if (record is { Vmm: not null, IsReady: true })
        {
            return $"warm microVM {record.Id}";
        }

        return IsServed ? $"microVM {record.Id}, which boots" : null;
    }

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

    private static bool IsAlive(MicroVmRecord record) =>
        record.BootId == MicroVmRecord.HostBootId && ProcessHandle.Exists(record.Vmm!.Pid, record.Vmm.StartTime);
}
