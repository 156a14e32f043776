using System.Globalization;
using System.Text;

namespace Pandora.Agent.Ports;

/// <summary>A TCP socket on which a program listens, as the kernel lists it (proc(5), <c>/proc/net/tcp</c>).</summary>
/// <param name="Port">The port.</param>
/// <param name="Address">The address: 4 or 16 bytes, all zero for every address.</param>
/// <param name="Inode">Number of the socket, which descriptors of it show.</param>
internal readonly record struct ListeningSocket(int Port, byte[] Address, ulong Inode)
{
    // The kernel lists sockets that listen before all others.
    private const int MostBytes = 1024 * 1024;
    private const int BufferSize = 16 * 1024;
    private const string Listens = "0A"; // TCP_LISTEN

    // ::ffff:0:0/96 (RFC 4291, 2.5.5.2).
    private static ReadOnlySpan<byte> MappedPrefix => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255];

    /// <summary>All sockets on which programs listen: at most those of the first MiB of each list.</summary>
    public static List<ListeningSocket> ReadAll()
    {
        List<ListeningSocket> sockets = [];
        Read("/proc/net/tcp", sockets);
        Read("/proc/net/tcp6", sockets);
        return sockets;
    }

    /// <summary>Reads a line of the list.</summary>
    /// <returns>Null when it is none of a socket that listens.</returns>
    public static ListeningSocket? Parse(ReadOnlySpan<char> line)
    {
        // Number, own address, other address, state, queues, timer, retransmits, user, timeout, inode.
        Span<Range> fields = stackalloc Range[11];
        if (line.Split(fields, ' ', StringSplitOptions.RemoveEmptyEntries) < 10 || line[fields[3]] is not Listens)
        {
            return null;
        }

        var own = line[fields[1]];
        var colon = own.IndexOf(':');
        return colon is 8 or 32
            && ushort.TryParse(own[(colon + 1)..], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var port) && port > 0
            && ulong.TryParse(line[fields[9]], NumberStyles.None, CultureInfo.InvariantCulture, out var inode)
            && ParseAddress(own[..colon]) is { } address
                ? new ListeningSocket(port, address, inode)
                : null;
    }

    private static void Read(string path, List<ListeningSocket> sockets)
    {
        var file = Linux.TryOpen(path);
        if (file < 0)
        {
            // The guest's kernel has no IPv6.
            return;
        }

        var buffer = new byte[BufferSize];
        var text = new char[BufferSize];
        var (total, kept) = (0, 0);
        for (int count; total < MostBytes && (count = Linux.Read(file, buffer.AsSpan(kept))) > 0; total += count)
        {
            var bytes = buffer.AsSpan(0, kept + count);
            for (int end; (end = bytes.IndexOf((byte)'\n')) >= 0; bytes = bytes[(end + 1)..])
            {
                if (Parse(text.AsSpan(0, Encoding.ASCII.GetChars(bytes[..end], text))) is { } socket)
                {
                    sockets.Add(socket);
                }
            }

            // A line has about 150 bytes; one that fills the buffer is none.
            kept = bytes.Length < BufferSize ? bytes.Length : 0;
            bytes[..kept].CopyTo(buffer);
        }

        Linux.Close(file);
    }

    // The kernel prints each 4 bytes as a number of its own byte order.
    private static byte[]? ParseAddress(ReadOnlySpan<char> text)
    {
        var address = new byte[text.Length / 2];
        for (var i = 0; i < address.Length; i += 4)
        {
            if (!uint.TryParse(text.Slice(2 * i, 8), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var word))
            {
                return null;
            }

            BitConverter.TryWriteBytes(address.AsSpan(i), word);
        }

        // An address of IPv4 on which a socket of IPv6 listens.
        return address.AsSpan().StartsWith(MappedPrefix) ? address[12..] : address;
    }
}
