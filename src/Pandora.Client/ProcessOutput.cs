namespace Pandora.Client;

/// <summary>What a <see cref="ProcessOutput"/> is.</summary>
public enum ProcessOutputKind
{
    /// <summary>Bytes of standard output, or of the terminal.</summary>
    Stdout,

    /// <summary>Bytes of standard error.</summary>
    Stderr,

    /// <summary>Output is missing here: it is not kept any more, or the guest did not send it.</summary>
    Dropped,
}

/// <summary>A piece of a process's output. Both outputs have one offset together, so their order is known.</summary>
public sealed record ProcessOutput
{
    /// <summary>What it is.</summary>
    public ProcessOutputKind Kind { get; init; }

    /// <summary>Offset of the first byte, or of the first byte that is missing.</summary>
    public long Offset { get; init; }

    /// <summary>Offset after the last byte, or after the last byte that is missing: where a later reader goes on.</summary>
    public long EndOffset { get; init; }

    /// <summary>The bytes as the process wrote them; none when they are missing.</summary>
    public ReadOnlyMemory<byte> Bytes { get; init; }
}
