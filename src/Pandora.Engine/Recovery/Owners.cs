using System.Net;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Linux;
using Pandora.Vmm.Host;

namespace Pandora.Engine.Recovery;

/// <summary>
/// Finds the owners of an instance's resources at one moment: from the server that audits its host, else from the records, the ledger of
/// slots and the kernel.
/// </summary>
internal sealed class Owners
{
    private readonly Dictionary<string, string> _ids = [];
    private readonly Dictionary<int, string> _slots = [];
    private readonly Dictionary<string, string> _addresses = [];
    private readonly string? _server;
    private readonly HostNames _names;

    /// <param name="dataDir">The instance's data directory.</param>
    /// <param name="names">The instance's names.</param>
    /// <param name="live">The microVMs of the calling server; null for a caller that is not the server.</param>
    /// <exception cref="IOException">A file could not be read. The caller must not take the owner for dead.</exception>
    public Owners(string dataDir, HostNames names, LiveMicroVms? live)
    {
        _names = names;
        IsServed = live is not null || FindServer(dataDir);
        // Read before the microVMs, so that a slot that is acquired in between has an owner: the server or a microVM.
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
            // A held slot has a microVM as owner, not the server.
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

    /// <summary>The owner of a microVM's resources; null when there is no such microVM.</summary>
    public string? OfMicroVm(string id) => _ids.GetValueOrDefault(id);

    /// <summary>The owner of a slot's resources; null when the slot has no owner.</summary>
    public string? OfSlot(int slot) => _slots.GetValueOrDefault(slot);

    /// <summary>The owner of the kernel's tracking entries for a slot's address; null when the address has no owner.</summary>
    public string? OfAddress(IPAddress address) => _addresses.GetValueOrDefault(address.ToString());

    /// <summary>The owner of the resources that all microVMs share; null when the instance has neither a server nor a microVM.</summary>
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

        // The record is damaged or missing. The directory may still be that of a living sandbox: then its VMM runs, in the namespace of its
        // slot.
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

    // Does not try the lock, because a server could not start at that moment.
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
