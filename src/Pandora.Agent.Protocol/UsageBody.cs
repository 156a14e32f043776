using System.Buffers.Binary;

namespace Pandora.Agent.Protocol;

/// <summary>What a guest uses at one moment: body of <see cref="AgentMessage.Usage"/>, eight numbers of 8 bytes. Sizes are bytes.</summary>
/// <param name="Cpus">Number of virtual CPUs.</param>
/// <param name="BusyTicks">Time in which the CPUs were busy since the guest started, in ticks of its kernel.</param>
/// <param name="AllTicks">All time of the CPUs since then, in the same ticks.</param>
/// <param name="MemoryTotal">Memory of the guest.</param>
/// <param name="MemoryUsed">Memory that programs and the kernel use, without what can be given back at once.</param>
/// <param name="MemoryCached">Memory that holds contents of files.</param>
/// <param name="DiskTotal">Size of the root filesystem.</param>
/// <param name="DiskUsed">How much of it is used.</param>
internal readonly record struct UsageBody(
    long Cpus, long BusyTicks, long AllTicks, long MemoryTotal, long MemoryUsed, long MemoryCached, long DiskTotal, long DiskUsed)
{
    private const int Numbers = 8, MaxCpus = 1024;
    private const long MaxNumber = 1L << 60;

    /// <summary>Writes the body.</summary>
    public byte[] Encode()
    {
        var body = new byte[Numbers * 8];
        long[] numbers = [Cpus, BusyTicks, AllTicks, MemoryTotal, MemoryUsed, MemoryCached, DiskTotal, DiskUsed];
        for (var i = 0; i < Numbers; i++)
        {
            BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(i * 8), numbers[i]);
        }

        return body;
    }

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body, or has a number that cannot be.</exception>
    public static UsageBody Decode(ReadOnlySpan<byte> body)
    {
        if (body.Length != Numbers * 8)
        {
            throw new FormatException("no report of usage");
        }

        var numbers = new long[Numbers];
        for (var i = 0; i < Numbers; i++)
        {
            numbers[i] = BinaryPrimitives.ReadInt64LittleEndian(body[(i * 8)..]);
            if (numbers[i] is < 0 or > MaxNumber)
            {
                throw new FormatException($"a number of a report of usage that cannot be: {numbers[i]}");
            }
        }

        if (numbers[1] > numbers[2] || numbers[4] > numbers[3] || numbers[5] > numbers[3] || numbers[7] > numbers[6])
        {
            throw new FormatException("a report of usage in which a part is more than the whole");
        }

        return numbers[0] is >= 1 and <= MaxCpus
            ? new UsageBody(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], numbers[7])
            : throw new FormatException($"a guest with {numbers[0]} CPUs");
    }
}
