using Microsoft.Extensions.Logging;
using Pandora.Linux;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// Free space on the file system of the microVMs' disks. The disks are sparse: together they may grow far beyond that file system. A claim
/// needs a reserve, plus a share of the bytes by which all disks may still grow. The growth is measured every second, the free space also
/// at each claim.
/// </summary>
public sealed partial class DiskRoom
{
    private const long MiB = 1024 * 1024;
    private const int BlockBytes = 512;

    // The operator is warned at this multiple of the needed bytes, before claims are refused.
    private const double WarnAt = 1.5;
    private readonly EngineOptions _options;
    private readonly string _directory;
    private readonly DriveInfo _drive;
    private readonly ILogger _logger;
    private long _growth;
    private bool _warned, _refuses;

    /// <param name="options">Reserve and share.</param>
    /// <param name="directory">Directory of the disks.</param>
    /// <param name="logger">Log of a lack of room.</param>
    public DiskRoom(EngineOptions options, string directory, ILogger<DiskRoom> logger)
    {
        _options = options;
        _directory = directory;
        _drive = new DriveInfo(directory);
        _logger = logger;
        Measure();
    }

    /// <summary>Bytes that the disks may still grow by.</summary>
    public long Growth => Interlocked.Read(ref _growth);

    /// <summary>Free bytes that a claim needs.</summary>
    public long Needed => (_options.DiskReserve * MiB) + (Growth / 100 * _options.DiskShare);

    /// <summary>
    /// The warning when room is missing now or will be soon; null when there is enough. Asks the file system, as a claim does.
    /// </summary>
    public string? Warning
    {
        get
        {
            try
            {
                return Warn(Free, Needed);
            }
            catch (IOException)
            {
                return "the free space of the server's disk could not be read: no microVM is handed out";
            }
        }
    }

    /// <summary>Whether a microVM that waits for room may continue.</summary>
    public bool HasReserve => Free >= _options.DiskReserve * MiB;

    /// <summary>Whether a number of bytes may be written without taking from the reserve.</summary>
    /// <exception cref="IOException">The free space could not be read.</exception>
    public bool HasRoomFor(long bytes) => Free - bytes >= _options.DiskReserve * MiB;

    private long Free => _drive.AvailableFreeSpace;

    /// <summary>Returns when there is room for another sandbox.</summary>
    /// <exception cref="PandoraException">There is no room.</exception>
    public void Ensure() => Ensure(growth: 0);

    /// <summary>Returns when there is room for another sandbox.</summary>
    /// <param name="growth">Bytes by which the disk of its microVM may grow, if that is not started yet.</param>
    /// <exception cref="PandoraException">There is no room.</exception>
    public void Ensure(long growth)
    {
        long free;
        try
        {
            free = Free;
        }
        catch (IOException e)
        {
            LogNotRead(e);
            throw new PandoraException(PandoraError.HostFull, "the free space of the server's disk could not be read", innerException: e);
        }

        if (free < Needed + (growth / 100 * _options.DiskShare))
        {
            // The log and the notes of /health have the free and the needed bytes.
            throw new PandoraException(
                PandoraError.HostFull,
                "the server's disk has fewer MiB free than another sandbox needs: delete sandboxes, or try again when some have ended")
            {
                Hint = "PANDORA_DISK_RESERVE and PANDORA_DISK_SHARE set how much stays free",
            };
        }
    }

    /// <summary>Measures by how much the disks may still grow, and logs a lack of room.</summary>
    public void Measure()
    {
        long growth = 0;
        foreach (var disk in new DirectoryInfo(_directory).EnumerateFiles())
        {
            try
            {
                if (FileStatus.Find(disk.FullName) is { } status)
                {
                    growth += Math.Max(0, disk.Length - (status.Blocks * BlockBytes));
                }
            }
            catch (IOException)
            {
                // The disk was deleted during the scan.
            }
        }

        Interlocked.Exchange(ref _growth, growth);
        var (free, needed) = (Free, Needed);
        var warning = Warn(free, needed);
        // Once when room becomes short, and once when there is too little.
        if (warning is not null && (!_warned || (free < needed && !_refuses)))
        {
            LogWarning(warning);
        }

        (_warned, _refuses) = (warning is not null, free < needed);
    }

    private static string? Warn(long free, long needed)
    {
        if (free < needed)
        {
            return $"the disk has {free / MiB} MiB free, and {needed / MiB} are needed: no microVM is handed out";
        }

        return free < needed * WarnAt ? $"the disk has {free / MiB} MiB free, and below {needed / MiB} no microVM is handed out" : null;
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Warning} (PANDORA_DISK_RESERVE, PANDORA_DISK_SHARE)")]
    private partial void LogWarning(string warning);

    [LoggerMessage(Level = LogLevel.Error, Message = "The free space of the disk could not be read")]
    private partial void LogNotRead(Exception exception);
}
