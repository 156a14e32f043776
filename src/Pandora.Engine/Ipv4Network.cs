using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace Pandora.Engine;

/// <summary>An IPv4 range in CIDR form.</summary>
public readonly record struct Ipv4Network(uint Address, int PrefixLength)
{
    /// <summary>Number of addresses.</summary>
    public long Size => 1L << (32 - PrefixLength);

    /// <summary>Returns the range with a prefix length that contains an address.</summary>
    public static Ipv4Network Of(uint address, int prefixLength) => new(address & Mask(prefixLength), prefixLength);

    /// <summary>Reads <c>10.200.0.0/16</c>, or a single address as a /32.</summary>
    public static bool TryParse(string text, out Ipv4Network network)
    {
        network = default;
        var parts = text.Split('/');
        if (parts.Length > 2 || !IPAddress.TryParse(parts[0], out var address) || address.AddressFamily != AddressFamily.InterNetwork)
        {
            return false;
        }

        var length = 32;
        if (parts.Length == 2 && (!int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out length) || length > 32))
        {
            return false;
        }

        network = new Ipv4Network(ToNumber(address) & Mask(length), length);
        return true;
    }

    /// <summary>Whether any address is in both ranges.</summary>
    public bool Overlaps(Ipv4Network other)
    {
        var mask = Mask(Math.Min(PrefixLength, other.PrefixLength));
        return (Address & mask) == (other.Address & mask);
    }

    /// <summary>Whether an address is in the range.</summary>
    public bool Contains(IPAddress address) => Overlaps(new Ipv4Network(ToNumber(address), 32));

    /// <summary>Whether all addresses of another range are in this one.</summary>
    public bool Contains(Ipv4Network other) => PrefixLength <= other.PrefixLength && Overlaps(other);

    /// <summary>Returns the address at an offset.</summary>
    public IPAddress At(long offset)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, (uint)(Address + offset));
        return new IPAddress(bytes);
    }

    /// <inheritdoc/>
    public override string ToString() => $"{At(0)}/{PrefixLength}";

    private static uint Mask(int length) => length == 0 ? 0 : uint.MaxValue << (32 - length);

    private static uint ToNumber(IPAddress address) => BinaryPrimitives.ReadUInt32BigEndian(address.GetAddressBytes());
}
