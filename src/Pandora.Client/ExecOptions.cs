using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>How a command is run. Everything may be left out.</summary>
public sealed class ExecOptions
{
    /// <summary>
    /// Time after which the command is killed, from <see cref="Limits.MinExecTimeout"/> to <see cref="Limits.MaxExecTimeout"/> seconds.
    /// Default: <see cref="Limits.DefaultExecTimeout"/> seconds.
    /// </summary>
    public TimeSpan? Timeout { get; set; }

    /// <summary>Directory to run in. Default: the user's home.</summary>
    public string? WorkingDirectory { get; set; }

    /// <summary>Environment variables to add, at most <see cref="Limits.MaxEnvBytes"/> in all.</summary>
    public IReadOnlyDictionary<string, string>? Environment { get; set; }

    /// <summary>User to run as. Default: root.</summary>
    public string? User { get; set; }

    /// <summary>Standard input, at most <see cref="Limits.MaxStdinBytes"/> as UTF-8. Default: empty.</summary>
    public string? Stdin { get; set; }
}
