using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>How a process ended.</summary>
public sealed record ProcessResult
{
    /// <summary>Exit code; 128 + n when signal n ended it; 137 when it was killed at its timeout.</summary>
    public int ExitCode { get; init; }

    /// <summary>Whether it was killed at its timeout.</summary>
    public bool IsTimedOut { get; init; }

    /// <summary>What was found after the kill, one of <see cref="CommandStates"/>; null unless <see cref="IsTimedOut"/>.</summary>
    public string? KillResult { get; init; }

    /// <summary>Whether the sandbox's memory was full, and its kernel killed the process or one that it started.</summary>
    public bool IsOutOfMemory { get; init; }

    /// <summary>The limit of memory that was reached, in bytes; null unless <see cref="IsOutOfMemory"/>.</summary>
    public long? MemoryLimit { get; init; }

    /// <summary>Whether processes that it started live on.</summary>
    public bool HasLeftovers { get; init; }

    internal static ProcessResult From(ExitedEvent exit) => new()
    {
        ExitCode = exit.ExitCode,
        IsTimedOut = exit.TimedOut == true,
        KillResult = exit.KillResult,
        IsOutOfMemory = exit.Oom == true,
        MemoryLimit = exit.MemoryLimitBytes,
    };

    internal static ProcessResult? From(ProcessState state) => state.ExitCode is not { } exitCode ? null : new()
    {
        ExitCode = exitCode,
        IsTimedOut = state.TimedOut == true,
        KillResult = state.KillResult,
        IsOutOfMemory = state.Oom == true,
        MemoryLimit = state.MemoryLimitBytes,
        HasLeftovers = state.HasLeftovers == true,
    };
}
