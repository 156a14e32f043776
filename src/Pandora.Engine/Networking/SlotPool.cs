using System.Globalization;
using Microsoft.Extensions.Logging;
using Pandora.Linux;

namespace Pandora.Engine.Networking;

/// <summary>
/// Hands out network slots. A few are made ahead of need; a returned one is taken down and its number used again for a namespace made anew.
/// </summary>
internal sealed partial class SlotPool : IAsyncDisposable
{
    private static readonly TimeSpan RetryPause = TimeSpan.FromSeconds(1), DisposeLimit = TimeSpan.FromSeconds(8);
    private readonly NetworkRules _network;
    private readonly HostNames _names;
    private readonly SlotLedger _ledger;
    private readonly ILogger<SlotPool> _logger;
    private readonly TimeProvider _time;
    private readonly Egress _egress;
    private readonly int _ahead;
    private readonly Lock _lock = new();
    private readonly PriorityQueue<int, int> _free = new();
    private readonly Queue<NetworkSlot> _ready = new();
    private readonly HashSet<Task> _working = [];
    private int _making;
    private volatile bool _disposed;

    /// <param name="network">The host's side.</param>
    /// <param name="names">Whose slots they are.</param>
    /// <param name="egress">What a fresh slot's guest may reach.</param>
    /// <param name="ahead">How many to keep ready.</param>
    /// <param name="taken">Numbers that microVMs of an earlier server hold, and those microVMs' ids.</param>
    /// <param name="time">For pauses after failures.</param>
    /// <param name="logger">Where failures go.</param>
    public SlotPool(NetworkRules network, HostNames names, Egress egress, int ahead, IReadOnlyDictionary<int, string> taken,
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

    /// <summary>How many slots there are in all.</summary>
    public int Count { get; }

    /// <summary>How many are held by microVMs, those that are being taken down counted in.</summary>
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

    /// <summary>Takes a slot, ready to be used.</summary>
    /// <param name="microVm">Id of the microVM that it is for.</param>
    /// <param name="cancellationToken">Ends the making of one.</param>
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
                Hint = "a wider PANDORA_NETWORK has more",
            };
        _ledger.Set(slot.Index, SlotState.Held, microVm);
        Prepare();
        return slot;
    }

    /// <summary>Removes a slot's veth pair. The kernel would do it after the namespace, when it likes.</summary>
    public Task DeleteInterfaceAsync(NetworkSlot slot) => Track(Task.Run(async () =>
    {
        _ledger.Set(slot.Index, SlotState.Ending);
        _network.Close(slot);
        await IpTool.DeleteLinkAsync(slot.InterfaceName);
    }));

    /// <summary>Deletes what the host's kernel tracks of a slot's connections, which would be kept for as long as they might go
    /// on.</summary>
    public Task DeleteConnectionsAsync(NetworkSlot slot) => Track(Task.Run(() => _network.ForgetConnections(slot)));

    /// <summary>Removes a slot's namespace with all that is in it.</summary>
    public Task DeleteNamespaceAsync(NetworkSlot slot) => Track(IpTool.DeleteNamespaceAsync(slot.NamespaceName));

    /// <summary>Lets a slot's number be used again, once nothing of it is there any more. Its VMM must have been reaped.</summary>
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

    /// <summary>Strikes a slot of an earlier server from the ledger, of which nothing is there any more.</summary>
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

    // What could not be removed for want of something (memory, descriptors) is tried again; its number is nobody's until then.
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

    // A redirect of a guest's changes no route.
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
        Level = LogLevel.Warning, Message = "Network slot {Slot} could not be taken down: {Error}. Its number is not used until it is")]
    private partial void LogDestroyFailed(int slot, string error);

    [LoggerMessage(Level = LogLevel.Warning, Message = "A network slot could not be made ahead of need: {Error}")]
    private partial void LogPrepareFailed(string error);
}
