using System.Text;

namespace Pandora.Agent.Control;

/// <summary>
/// Counts the errors of the guest's disks (vda, vdb, …) that the kernel reports in <c>/dev/kmsg</c>
/// (Documentation/ABI/testing/dev-kmsg). Each read returns one record: <c>priority,number,time,flags;text</c>.
/// A record that a program wrote has a facility, so its priority is 8 or more, and is not counted.
/// </summary>
internal sealed class KernelLog
{
    private const int KernelPriorities = 8;
    private readonly byte[] _record = new byte[8192];
    private int _descriptor = -1;
    private uint _diskErrors;

    /// <summary>Reads the new records, without waiting, and returns the number of errors so far.</summary>
    public uint CountDiskErrors()
    {
        if (_descriptor < 0)
        {
            _descriptor = Linux.OpenToPoll("/dev/kmsg");
        }

        // If a record was overwritten before it was read, one read fails (EPIPE), and the next read returns the next record.
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

    /// <summary>Whether a record is the kernel's report of an error of a virtio disk.</summary>
    internal static bool IsDiskError(string record)
    {
        var comma = record.IndexOf(',', StringComparison.Ordinal);
        var text = record.IndexOf(';', StringComparison.Ordinal);
        return comma > 0 && text > comma && int.TryParse(record.AsSpan(0, comma), out var priority) && priority < KernelPriorities
            && record.Contains("I/O error", StringComparison.Ordinal) && record.Contains("dev vd", StringComparison.Ordinal);
    }
}
