using Microsoft.Extensions.Logging;
using Pandora.Linux;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// Room on the file system of the microVMs' disks, which are sparse: together they may grow far beyond it. A claim needs a reserve, and a
/// share of what all may still grow by. Looked at every second, and at each claim how much is free.
/// </summary>
public sealed partial class DiskRoom
{
    private const long MiB = 1024 * 1024;
    private const int BlockBytes = 512;

    // What makes people look before claims are refused.
    private const double WarnAt = 1.5;
    private readonly EngineOptions _options;
    private readonly string _directory;
    private readonly DriveInfo _drive;
    private readonly ILogger _logger;
    private long _growth;
    private bool _warned, _refuses;

    /// <param name="options">Reserve and share.</param>
    /// <param name="directory">Directory of the disks.</param>
    /// <param name="logger">Where a lack of room is logged.</param>
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

    /// <summary>What is wrong now, or will soon be; null when there is room enough. Asks the file system, as a claim does.</summary>
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
                return "how much room the server's disk has could not be seen: no microVM is handed out";
            }
        }
    }

    /// <summary>Whether a microVM that waits for room may go on.</summary>
    public bool HasReserve => Free >= _options.DiskReserve * MiB;

    private long Free => _drive.AvailableFreeSpace;

    /// <summary>Returns when there is room for another sandbox.</summary>
    /// <exception cref="PandoraException">There is not.</exception>
    public void Ensure()
    {
        long free;
        try
        {
            free = Free;
        }
        catch (IOException e)
        {
            LogNotSeen(e);
            throw new PandoraException(PandoraError.HostFull, "how much room the server's disk has could not be seen", innerException: e);
        }

        if (free < Needed)
        {
            // How much there is and is needed stands in the log and among the notes of /health.
            throw new PandoraException(
                PandoraError.HostFull,
                "the server's disk has fewer MiB free than another sandbox needs: delete sandboxes, or try again when some have ended")
            {
                Hint = "PANDORA_DISK_RESERVE and PANDORA_DISK_SHARE say how much is kept free",
            };
        }
    }

    /// <summary>Looks how far the disks have grown.</summary>
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
                // It went while it was looked at.
            }
        }

        Interlocked.Exchange(ref _growth, growth);
        var (free, needed) = (Free, Needed);
        var warning = Warn(free, needed);
        // Once when it gets short, and once when it is too little.
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

    [LoggerMessage(Level = LogLevel.Error, Message = "How much room the disk has could not be seen")]
    private partial void LogNotSeen(Exception exception);
}
