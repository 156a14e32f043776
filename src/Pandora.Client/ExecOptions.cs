using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>How a command is run. Everything may be left out.</summary>
public sealed class ExecOptions
{
    /// <summary>
    /// Time after which the command is killed: at least <see cref="Limits.MinExecTimeout"/> seconds, at most
    /// <see cref="ServerHealth.MaxTimeout"/>. Default: <see cref="Limits.DefaultExecTimeout"/> seconds.
    /// </summary>
    public TimeSpan? Timeout { get; set; }

    /// <summary>Directory to run in. Default: the user's home.</summary>
    public string? WorkingDirectory { get; set; }

    /// <summary>Environment variables to add, at most <see cref="Limits.MaxEnvBytes"/> in all.</summary>
    public IReadOnlyDictionary<string, string>? Environment { get; set; }

    /// <summary>User to run as: a name, or a number such as <c>1000</c>. Default: root.</summary>
    public string? User { get; set; }

    /// <summary>
    /// Standard input as text, at most <see cref="Limits.MaxStdinBytes"/> as UTF-8. It is sent with the request: longer input, or input
    /// that comes while the command runs, is for <see cref="SandboxProcess.WriteInputAsync(Stream, CancellationToken)"/>. Default: empty.
    /// </summary>
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

    /// <summary>
    /// Is called with standard output as text, as the command writes it; the result has it, too. An exception ends the command.
    /// Default: none.
    /// </summary>
    public Action<string>? OnStdout { get; set; }

    /// <summary>Is called with standard error as text, likewise.</summary>
    public Action<string>? OnStderr { get; set; }

    /// <summary>
    /// Is called with both outputs as bytes, in their order, as the command writes them, and where output is missing. Default: none.
    /// </summary>
    public Action<ProcessOutput>? OnOutput { get; set; }

    internal bool IsStreamed => OnStdout is not null || OnStderr is not null || OnOutput is not null;

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
            Encoding = options is { BinaryOutput: true } or { IsStreamed: true } ? ByteEncodings.Base64 : null,
            Merge = options?.MergeOutputs == true ? true : null,
        };
    }
}
