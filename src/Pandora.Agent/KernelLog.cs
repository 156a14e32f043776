using System.Text;

namespace Pandora.Agent;

/// <summary>
/// Counts what the kernel reports of errors of the guest's own disks (vda, vdb, …), from <c>/dev/kmsg</c>
/// (Documentation/ABI/testing/dev-kmsg): a record a read, <c>priority,number,time,flags;text</c>.
/// What a program has written there itself has a facility, so its priority is 8 or more, and does not count.
/// </summary>
internal sealed class KernelLog
{
    private const int KernelPriorities = 8;
    private readonly byte[] _record = new byte[8192];
    private int _descriptor = -1;
    private uint _diskErrors;

    /// <summary>Reads what is new, without waiting, and returns how many errors there have been.</summary>
    public uint CountDiskErrors()
    {
        if (_descriptor < 0)
        {
            _descriptor = Linux.OpenToPoll("/dev/kmsg");
        }

        // A record that was overwritten before it was read is one failed read (EPIPE), after which the next one comes.
        for (var lost = 0; _descriptor >= 0 && lost < 2;)
        {
            var count = Linux.Read(_descriptor, _record);
            if (count <= 0)
            {
                lost++;
                continue;
            }

            lost = 0;
            if (IsDiskError(Encoding.UTF8.GetString(_record, 0, count)))
            {
                _diskErrors++;
            }
        }

        return _diskErrors;
    }

    /// <summary>Whether a record is the kernel's word of an error of a virtio disk.</summary>
    internal static bool IsDiskError(string record)
    {
        var comma = record.IndexOf(',', StringComparison.Ordinal);
        var text = record.IndexOf(';', StringComparison.Ordinal);
        return comma > 0 && text > comma && int.TryParse(record.AsSpan(0, comma), out var priority) && priority < KernelPriorities
            && record.Contains("I/O error", StringComparison.Ordinal) && record.Contains("dev vd", StringComparison.Ordinal);
    }
}
