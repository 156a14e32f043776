namespace Pandora.Engine.Admission;

/// <summary>The size of a microVM.</summary>
/// <param name="MemoryMib">Memory in MiB.</param>
/// <param name="Vcpus">Number of virtual CPUs.</param>
/// <param name="DiskMib">Size of its disk in MiB; 0 when it is not known. The file is sparse.</param>
public sealed record MicroVmSize(int MemoryMib, int Vcpus, int DiskMib)
{
    /// <summary>What a microVM of an older Pandora counts as, whose record has no size: the size of the default template.</summary>
    internal static readonly MicroVmSize OfUnknown = new(256, 1, 2048);

    /// <summary>Bounds of every microVM, where its template has no narrower ones.</summary>
    internal const int MinMemoryMib = 128, MaxMemoryMib = 65536, MaxVcpus = 32, MinDiskMib = 64, MaxDiskMib = 1024 * 1024;
}

/// <summary>The size that a client asks for. Null stands for the template's.</summary>
/// <param name="MemoryMib">Memory in MiB.</param>
/// <param name="Vcpus">Number of virtual CPUs.</param>
/// <param name="DiskMib">Size of the disk in MiB.</param>
public sealed record WantedSize(int? MemoryMib = null, int? Vcpus = null, int? DiskMib = null);
