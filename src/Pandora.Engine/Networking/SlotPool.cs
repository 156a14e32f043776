using System.Globalization;
using Microsoft.Extensions.Logging;
using Pandora.Linux;

namespace Pandora.Engine.Networking;

/// <summary>
/// Hands out network slots. A few are made ahead of need. A released slot is cleaned up, and its number is used again for a new namespace.
/// </summary>
internal sealed partial class SlotPool : IAsyncDisposable
{
    private static readonly TimeSpan RetryPause = TimeSpan.FromSeconds(1), DisposeLimit = TimeSpan.FromSeconds(8);
    private readonly NetworkRules _network;
    private readonly HostNames _names;
    private readonly SlotLedger _ledger;
    private readonly ILogger<SlotPool> _logger;
    private readonly TimeProvider _time;
    private readonly EgressPolicy _egress;
    private readonly int _ahead;
    private readonly Lock _lock = new();
    private readonly PriorityQueue<int, int> _free = new();
    private readonly Queue<NetworkSlot> _ready = new();
    private readonly HashSet<Task> _working = [];
    private int _making;
    private volatile bool _disposed;

    /// <param name="network">The instance's rules.</param>
    /// <param name="names">The instance's names on the host.</param>
    /// <param name="egress">What a new slot's guest may reach.</param>
    /// <param name="ahead">How many slots to keep ready.</param>
    /// <param name="taken">Numbers of the slots that microVMs of an earlier server hold, with those microVMs' ids.</param>
    /// <param name="time">Clock of the pauses after failures.</param>
    /// <param name="logger">Receives the failures.</param>
    public SlotPool(NetworkRules network, HostNames names, EgressPolicy egress, int ahead, IReadOnlyDictionary<int, string> taken,
        TimeProvider time, ILogger<SlotPool> logger)
    {
        _network = network;
        _names = names;
        _ledger = new SlotLedger(names.RunDirectory);
        _egress = egress;
        _ahead = ahead;
        _logger = logger;
        _time = time;
        Count = (int)Math.Min(16384, network.Range.Size / 4);
        foreach (var i in Enumerable.Range(0, Count).Where(i => !taken.ContainsKey(i)))
        {
            _free.Enqueue(i, i);
        }

        foreach (var (slot, microVm) in taken)
        {
            _ledger.Set(slot, SlotState.Held, microVm);
        }
    }

    /// <summary>Number of slots in all.</summary>
    public int Count { get; }

    /// <summary>Number of slots that microVMs hold, including slots that are being cleaned up.</summary>
    public int HeldCount
    {
        get
        {
            lock (_lock)
            {
                return Count - _free.Count - _ready.Count - _making;
            }
        }
    }

    /// <summary>Acquires a slot that is ready for use.</summary>
    /// <param name="microVm">Id of the microVM that the slot is for.</param>
    /// <param name="cancellationToken">Stops the making of a slot.</param>
    /// <exception cref="PandoraException">Every slot is in use.</exception>
    public async Task<NetworkSlot> AcquireSlotAsync(string microVm, CancellationToken cancellationToken)
    {
        NetworkSlot? slot;
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            _ready.TryDequeue(out slot);
        }

        slot ??= await MakeAsync(cancellationToken)
            ?? throw new PandoraException(PandoraError.PoolEmpty, $"all {Count} network slots of {_network.Range} are in use")
            {
                Hint = "a wider range in PANDORA_NETWORK has more slots",
            };
        _ledger.Set(slot.Index, SlotState.Held, microVm);
        Prepare();
        return slot;
    }

    /// <summary>Removes a slot's veth pair. The kernel would remove it with the namespace, but only some time later.</summary>
    public Task DeleteInterfaceAsync(NetworkSlot slot) => Track(Task.Run(async () =>
    {
        _ledger.Set(slot.Index, SlotState.Ending);
        _network.Close(slot);
        await IpTool.DeleteLinkAsync(slot.InterfaceName);
    }));

    /// <summary>Deletes the connections that the host's kernel tracks for a slot. Otherwise the kernel keeps them until their
    /// timeouts.</summary>
    public Task DeleteConnectionsAsync(NetworkSlot slot) => Track(Task.Run(() => _network.ForgetConnections(slot)));

    /// <summary>Removes a slot's namespace with everything in it.</summary>
    public Task DeleteNamespaceAsync(NetworkSlot slot) => Track(IpTool.DeleteNamespaceAsync(slot.NamespaceName));

    /// <summary>Releases a slot's number once no resource of the slot remains. The slot's VMM must have been reaped.</summary>
    public void Free(NetworkSlot slot)
    {
        if (File.Exists(slot.NamespacePath))
        {
            _ = Track(DestroyAgainAsync(slot));
            return;
        }

        _ledger.Set(slot.Index, null);
        lock (_lock)
        {
            _free.Enqueue(slot.Index, slot.Index);
        }
    }

    /// <summary>Removes a slot of an earlier server from the ledger, once no resource of the slot remains.</summary>
    public void Forget(int slot) => _ledger.Set(slot, null);

    /// <summary>Starts making slots ahead of need.</summary>
    public void Prepare()
    {
        lock (_lock)
        {
            while (!_disposed && _ready.Count + _making < _ahead && _free.Count > 0)
            {
                _making++;
                _ = Track(PrepareOneAsync());
            }
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        Task[] working;
        lock (_lock)
        {
            _disposed = true;
            working = [.. _working];
        }

        await Task.WhenAll(working).WaitAsync(DisposeLimit, _time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await Task.WhenAll(_ready.Select(DestroyAsync));
    }

    private async Task PrepareOneAsync()
    {
        try
        {
            var slot = await MakeAsync(CancellationToken.None);
            lock (_lock)
            {
                if (slot is not null)
                {
                    _ready.Enqueue(slot);
                    _ledger.Set(slot.Index, SlotState.Ready);
                }
            }
        }
        catch (Exception e)
        {
            LogPrepareFailed(e.Message);
        }
        finally
        {
            lock (_lock)
            {
                _making--;
            }
        }
    }

    private async Task<NetworkSlot?> MakeAsync(CancellationToken cancellationToken)
    {
        NetworkSlot slot;
        lock (_lock)
        {
            if (!_free.TryDequeue(out var index, out _))
            {
                return null;
            }

            slot = NetworkSlot.At(index, _names, _network.Range);
        }

        _ledger.Set(slot.Index, SlotState.Making);

        try
        {
            await Command.RunAsync("ip", ["-batch", "-"], HostSide(slot), cancellationToken: cancellationToken);
            var rules = _network.RulesOf(slot, _egress);
            await Command.RunAsync(
                "nsenter",
                [$"--net={slot.NamespacePath}", "--", "sh", "-es"],
                NamespaceSide(slot, rules),
                cancellationToken: cancellationToken);
            await _network.OpenAsync(slot, _egress, rules);
            return slot;
        }
        catch
        {
            await DestroyAsync(slot);
            throw;
        }
    }

    private async Task DestroyAsync(NetworkSlot slot)
    {
        try
        {
            await CleanUpAsync(slot);
        }
        catch (Exception e)
        {
            LogDestroyFailed(slot.Index, e.Message);
        }

        Free(slot);
    }

    // A slot may not be removable for lack of memory or descriptors: this tries again, and until then its number is not used.
    private async Task DestroyAgainAsync(NetworkSlot slot)
    {
        while (!_disposed)
        {
            await Task.Delay(RetryPause, _time);
            try
            {
                await CleanUpAsync(slot);
                Free(slot);
                return;
            }
            catch (Exception e)
            {
                LogDestroyFailed(slot.Index, e.Message);
            }
        }
    }

    private async Task CleanUpAsync(NetworkSlot slot)
    {
        await DeleteInterfaceAsync(slot);
        await DeleteNamespaceAsync(slot);
        await DeleteConnectionsAsync(slot);
    }

    private async Task Track(Task task)
    {
        lock (_lock)
        {
            _working.Add(task);
        }

        try
        {
            await task;
        }
        finally
        {
            lock (_lock)
            {
                _working.Remove(task);
            }
        }
    }

    private string HostSide(NetworkSlot slot) => string.Create(CultureInfo.InvariantCulture, $"""
        netns add {slot.NamespaceName}
        link add {slot.InterfaceName} mtu {_network.Mtu} type veth peer name up0 mtu {_network.Mtu} netns {slot.NamespaceName}
        {(Directory.Exists("/proc/sys/net/ipv6") ? $"link set {slot.InterfaceName} addrgenmode none" : "")}
        addr add {slot.HostAddress}/30 dev {slot.InterfaceName}
        link set {slot.InterfaceName} up

        """);

    // Without accept_redirects an ICMP redirect from a guest changes no route.
    private string NamespaceSide(NetworkSlot slot, string rules) => $$"""
        if [ -d /proc/sys/net/ipv6 ]; then
            echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
            echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
        fi
        echo 1 > /proc/sys/net/ipv4/ip_forward
        echo 0 > /proc/sys/net/ipv4/conf/all/accept_redirects
        echo 0 > /proc/sys/net/ipv4/conf/default/accept_redirects
        ip -batch - <<END
        tuntap add dev {{NetworkSlot.TapName}} mode tap user {{_names.UidOf(slot.Index)}} group {{_names.UidOf(slot.Index)}}
        addr add {{NetworkSlot.GatewayAddress}}/30 dev {{NetworkSlot.TapName}}
        link set {{NetworkSlot.TapName}} address {{NetworkSlot.GatewayMac}} mtu {{_network.Mtu}} up
        neigh replace {{NetworkSlot.GuestAddress}} lladdr {{NetworkSlot.GuestMac}} nud permanent dev {{NetworkSlot.TapName}}
        addr add {{slot.Address}}/30 dev up0
        link set up0 up
        route add default via {{slot.HostAddress}}
        END
        nft -f - <<'END'
        {{rules}}
        END

        """;

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "Network slot {Slot} could not be cleaned up: {Error}. Its number is not used again until that has succeeded")]
    private partial void LogDestroyFailed(int slot, string error);

    [LoggerMessage(Level = LogLevel.Warning, Message = "A network slot could not be made ahead of need: {Error}")]
    private partial void LogPrepareFailed(string error);
}
