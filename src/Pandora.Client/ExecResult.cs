using System.Text;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>The result of a command that ended by itself.</summary>
public sealed record ExecResult
{
    /// <summary>Exit code; 128 + n when signal n ended bash.</summary>
    public int ExitCode { get; init; }

    /// <summary>
    /// Standard output, at most <see cref="Limits.MaxOutputBytes"/>. Bytes that are not UTF-8 are replaced by U+FFFD. Where
    /// <see cref="StdoutBytes"/> has a value, this is made from it at each call.
    /// </summary>
    public string Stdout { get => StdoutBytes is { } bytes ? Encoding.UTF8.GetString(bytes.Span) : field; init; } = "";

    /// <summary>Standard error, likewise.</summary>
    public string Stderr { get => StderrBytes is { } bytes ? Encoding.UTF8.GetString(bytes.Span) : field; init; } = "";

    /// <summary>Standard output as the bytes that the command wrote; null unless <see cref="ExecOptions.BinaryOutput"/> was set.</summary>
    public ReadOnlyMemory<byte>? StdoutBytes { get; init; }

    /// <summary>Standard error, likewise.</summary>
    public ReadOnlyMemory<byte>? StderrBytes { get; init; }

    /// <summary>Time from the server's start of the command to its end.</summary>
    public TimeSpan Duration { get; init; }

    /// <summary>Whether one of the outputs was longer than the part that is kept.</summary>
    public bool IsTruncated { get; init; }

    /// <summary>
    /// Whether the server replaced bytes of an output that are not UTF-8; <see cref="ExecOptions.BinaryOutput"/> gets them as they are.
    /// </summary>
    public bool IsLossy { get; init; }

    /// <summary>
    /// Whether the sandbox's memory was full, and its kernel killed a process of the command: the command itself, or one that it started.
    /// </summary>
    public bool IsOutOfMemory { get; init; }

    /// <summary>The limit of memory that was reached, in bytes; null unless <see cref="IsOutOfMemory"/>.</summary>
    public long? MemoryLimit { get; init; }

    /// <summary>Whether the sandbox's disk has lost data that the guest had written, because of an I/O error on the host.</summary>
    public bool HasDiskLostData { get; init; }

    /// <summary>Milliseconds from the server's start of the command to its end.</summary>
    [Obsolete("Use Duration")]
    public double ExecMs => Duration.TotalMilliseconds;

    internal static ExecResult From(ExecResponse response, ExecRequest request)
    {
        var result = new ExecResult
        {
            ExitCode = response.ExitCode,
            Duration = WireTime.Milliseconds(response.ExecMs),
            IsTruncated = response.Truncated == true,
            IsLossy = response.Lossy == true,
            IsOutOfMemory = response.Oom == true,
            MemoryLimit = response.MemoryLimitBytes,
            HasDiskLostData = response.DiskLostData == true,
        };
        return request.Encoding == ByteEncodings.Base64
            ? result with { StdoutBytes = PandoraApi.Decode(response.Stdout), StderrBytes = PandoraApi.Decode(response.Stderr) }
            : result with { Stdout = response.Stdout ?? "", Stderr = response.Stderr ?? "" };
    }
}
