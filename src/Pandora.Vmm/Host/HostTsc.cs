using System.Diagnostics;
using System.Runtime.InteropServices;
using Pandora.Linux;

namespace Pandora.Vmm.Host;

/// <summary>The rate of the host's time stamp counter. A guest under TCG sees the same rate.</summary>
public static unsafe class HostTsc
{
    private static readonly Lazy<long?> Rate = new(Measure);

    /// <summary>
    /// The rate in kHz, measured once against the monotonic clock over 50 ms; null if the host is not x86-64. <c>cpu MHz</c> in
    /// <c>/proc/cpuinfo</c> is another value: the present clock rate of the processor.
    /// </summary>
    public static long? KiloHertz => Rate.Value;

    private static long? Measure()
    {
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            return null;
        }

        // rdtsc; shl rdx, 32; or rax, rdx; ret
        ReadOnlySpan<byte> code = [0x0F, 0x31, 0x48, 0xC1, 0xE2, 0x20, 0x48, 0x09, 0xD0, 0xC3];
        var page = Libc.Map(0, 4096, Libc.ProtRead | Libc.ProtWrite, Libc.MapPrivate | Libc.MapAnonymous, -1, 0);
        if (page == -1)
        {
            return null;
        }

        try
        {
            code.CopyTo(new Span<byte>((void*)page, code.Length));
            if (Libc.Protect(page, 4096, Libc.ProtRead | Libc.ProtExec) != 0)
            {
                return null;
            }

            var read = (delegate* unmanaged<ulong>)page;
            read();
            var best = long.MaxValue;
            var rate = 0L;
            for (var attempt = 0; attempt < 3; attempt++)
            {
                // The measurement with the shortest disturbance is used.
                var before = Stopwatch.GetTimestamp();
                var first = read();
                var disturbed = Stopwatch.GetTimestamp() - before;
                while (Stopwatch.GetElapsedTime(before).TotalMilliseconds < 50)
                {
                    Thread.SpinWait(50);
                }

                var middle = Stopwatch.GetTimestamp();
                var last = read();
                disturbed += Stopwatch.GetTimestamp() - middle;
                if (disturbed < best)
                {
                    best = disturbed;
                    rate = (long)((last - first) / Stopwatch.GetElapsedTime(before, middle).TotalMilliseconds);
                }
            }

            return rate;
        }
        finally
        {
            _ = Libc.Unmap(page, 4096);
        }
    }
}
