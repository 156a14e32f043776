using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>The result of a command that ended by itself.</summary>
public sealed record ExecResult
{
    /// <summary>Exit code; 128 + n when signal n ended bash.</summary>
    public int ExitCode { get; init; }

    /// <summary>Standard output, at most <see cref="Limits.MaxOutputBytes"/>. Bytes that are not UTF-8 are replaced by U+FFFD.</summary>
    public string Stdout { get; init; } = "";

    /// <summary>Standard error, likewise.</summary>
    public string Stderr { get; init; } = "";

    /// <summary>Time from the server's start of the command to its end.</summary>
    public TimeSpan Duration { get; init; }

    /// <summary>Whether one of the outputs was longer than the part that is kept.</summary>
    public bool IsTruncated { get; init; }

    /// <summary>Whether the sandbox's disk has lost data that the guest had written, because of an I/O error on the host.</summary>
    public bool HasDiskLostData { get; init; }

    /// <summary>Milliseconds from the server's start of the command to its end.</summary>
    [Obsolete("Use Duration")]
    public double ExecMs => Duration.TotalMilliseconds;

    internal static ExecResult From(ExecResponse response) => new()
    {
        ExitCode = response.ExitCode,
        Stdout = response.Stdout ?? "",
        Stderr = response.Stderr ?? "",
        Duration = WireTime.Milliseconds(response.ExecMs),
        IsTruncated = response.Truncated == true,
        HasDiskLostData = response.DiskLostData == true,
    };
}
