using Pandora.Contracts;

namespace Pandora.Cli.Sessions;

/// <summary>A command as the command line describes it.</summary>
/// <param name="Code">Shell text.</param>
/// <param name="Timeout">Seconds after which it is killed; null for the longest that there is.</param>
/// <param name="Cwd">Directory.</param>
/// <param name="Env">Environment variables.</param>
/// <param name="User">User.</param>
/// <param name="Merge">Whether both outputs are one.</param>
/// <param name="HasInput">Whether this program's standard input is its own.</param>
/// <param name="HasTerminal">Whether it has a terminal.</param>
internal sealed record CommandSpec(
    string Code, double? Timeout, string? Cwd, IReadOnlyDictionary<string, string> Env, string? User, bool Merge, bool HasInput,
    bool HasTerminal)
{
    /// <summary>The request of a command that ends with its client.</summary>
    public ExecRequest ToExec(double timeout, string? encoding) => new(Code, timeout, Cwd, Env, User)
    {
        Encoding = encoding,
        Merge = Merge ? true : null,
    };

    /// <summary>The request of a process that is fed while it runs.</summary>
    public StartProcessRequest ToProcess() => new(
        Code, Timeout: Timeout, Cwd: Cwd, Env: Env, User: User, Stdin: true, Merge: Merge ? true : null, KeepsAlive: true,
        WaitForReader: true);

    /// <summary>The request of a process with a terminal, of this program's terminal's kind.</summary>
    public StartProcessRequest ToTerminal(TerminalSize size)
    {
        var env = new Dictionary<string, string>(Env);
        env.TryAdd("TERM", Environment.GetEnvironmentVariable("TERM") is { Length: > 0 } kind ? kind : "xterm");
        return new(
            Code, Timeout: Timeout, Cwd: Cwd, Env: env, User: User, Terminal: size, KeepsAlive: true, WaitForReader: true);
    }
}
