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

    /// <summary>User to run as: a name, or a number such as <c>1000</c>. Default: root.</summary>
    public string? User { get; set; }

    /// <summary>Standard input as text, at most <see cref="Limits.MaxStdinBytes"/> as UTF-8. Default: empty.</summary>
    public string? Stdin { get; set; }

    /// <summary>Standard input as bytes, at most <see cref="Limits.MaxStdinBytes"/>, in place of <see cref="Stdin"/>.</summary>
    public ReadOnlyMemory<byte>? StdinBytes { get; set; }

    /// <summary>
    /// Whether the outputs are wanted as the bytes that the command wrote: <see cref="ExecResult.StdoutBytes"/> and
    /// <see cref="ExecResult.StderrBytes"/>. Default: false, as text.
    /// </summary>
    public bool BinaryOutput { get; set; }

    /// <summary>
    /// Whether both outputs go to <see cref="ExecResult.Stdout"/>, in the order in which the command wrote them. Default: false.
    /// </summary>
    public bool MergeOutputs { get; set; }

    internal static ExecRequest ToRequest(string code, ExecOptions? options)
    {
        if (options is { Stdin: not null, StdinBytes: not null })
        {
            throw new ArgumentException("Stdin and StdinBytes are both set", nameof(options));
        }

        return new ExecRequest(code, options?.Timeout?.TotalSeconds, options?.WorkingDirectory, options?.Environment, options?.User)
        {
            Stdin = options?.StdinBytes is { } bytes ? Convert.ToBase64String(bytes.Span) : options?.Stdin,
            StdinEncoding = options?.StdinBytes is null ? null : ByteEncodings.Base64,
            Encoding = options?.BinaryOutput == true ? ByteEncodings.Base64 : null,
            Merge = options?.MergeOutputs == true ? true : null,
        };
    }
}
