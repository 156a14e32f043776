using System.Collections.Concurrent;
using System.Net;
using Pandora.Server.Hosting.Connections;

namespace Pandora.Server.Auth;

/// <summary>
/// Bounds how many wrong keys an address may send: <see cref="Burst"/> at once, and then one every <see cref="Refill"/>. An address above
/// the bound is refused whatever key it sends, so that it learns nothing; only a key that has worked from there before still works, because
/// many clients may share an address. An IPv6 client counts by its /64. A right key from loopback or a proxy
/// always works: all clients of a proxy share its address, and one that guesses must not keep out the others.
/// </summary>
internal sealed class GuessBound(ConnectionLimits limits, TimeProvider time)
{
    /// <summary>Wrong keys that an address may send at once.</summary>
    public const int Burst = 20;

    /// <summary>Most addresses, and most keys that worked from an address, that are remembered.</summary>
    internal const int MostRemembered = 10_000;

    /// <summary>Time after which an address may send one more wrong key.</summary>
    public static readonly TimeSpan Refill = TimeSpan.FromSeconds(3);

    private readonly Lock _lock = new();
    // When all of an address's tokens will be there again, as a timestamp: the state of a leaky bucket in one number.
    private readonly Dictionary<IPAddress, long> _fullAt = [];
    private readonly ConcurrentDictionary<(IPAddress Source, string KeyId), bool> _worked = new();
    private volatile bool _hasGuesses;

    /// <summary>The number of addresses that sent wrong keys lately.</summary>
    internal int Count
    {
        get
        {
            lock (_lock)
            {
                return _fullAt.Count;
            }
        }
    }

    /// <summary>Whether a key may be accepted from an address. Remembers a key that is.</summary>
    public bool MayPass(IPAddress? address, Key key)
    {
        if (address is null || limits.IsExempt(address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address))
        {
            return true;
        }

        var known = (ConnectionLimits.SourceOf(address), key.Entry.Id);
        if (_worked.ContainsKey(known))
        {
            return true;
        }

        if (IsOver(address))
        {
            return false;
        }

        if (_worked.Count >= MostRemembered)
        {
            _worked.Clear();
        }

        _worked[known] = true;
        return true;
    }

    /// <summary>Counts a wrong key.</summary>
    /// <returns>False when the address is above the bound.</returns>
    public bool Guessed(IPAddress? address)
    {
        if (address is null)
        {
            return true;
        }

        var source = ConnectionLimits.SourceOf(address);
        var (now, one) = (time.GetTimestamp(), (long)(Refill.TotalSeconds * time.TimestampFrequency));
        lock (_lock)
        {
            _hasGuesses = true;
            var fullAt = Math.Max(_fullAt.GetValueOrDefault(source, now), now);
            if (fullAt - now > (Burst - 1) * one)
            {
                return false;
            }

            if (_fullAt.Count >= MostRemembered && !_fullAt.ContainsKey(source))
            {
                Forget(now);
            }

            _fullAt[source] = fullAt + one;
            return true;
        }
    }

    private bool IsOver(IPAddress address)
    {
        if (!_hasGuesses)
        {
            return false;
        }

        var one = (long)(Refill.TotalSeconds * time.TimestampFrequency);
        lock (_lock)
        {
            return _fullAt.TryGetValue(ConnectionLimits.SourceOf(address), out var fullAt)
                && fullAt - time.GetTimestamp() > (Burst - 1) * one;
        }
    }

    // Under the lock: first the addresses that have all their tokens; if there are none, half of the others.
    private void Forget(long now)
    {
        foreach (var (source, fullAt) in _fullAt.ToList())
        {
            if (fullAt <= now)
            {
                _fullAt.Remove(source);
            }
        }

        if (_fullAt.Count >= MostRemembered)
        {
            foreach (var source in _fullAt.OrderBy(s => s.Value).Take(MostRemembered / 2).Select(s => s.Key).ToList())
            {
                _fullAt.Remove(source);
            }
        }
    }
}
