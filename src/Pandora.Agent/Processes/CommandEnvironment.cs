using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Processes;

/// <summary>The environment of a process, and where its program is looked for.</summary>
internal static class CommandEnvironment
{
    private const string Path = "PATH", DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

    /// <summary>The variable that says where programs are looked for, unless a request says something else.</summary>
    public const string DefaultVariable = $"{Path}={DefaultPath}";

    /// <summary>The variables of a process: those of a login, then the request's, then the mark.</summary>
    public static IReadOnlyList<string> Create(StartRequest request, Account account)
    {
        var variables = new Dictionary<string, string>
        {
            [Path] = DefaultPath,
            ["HOME"] = account.Home,
            ["USER"] = account.Name,
            ["LOGNAME"] = account.Name,
            ["SHELL"] = account.Shell,
            ["LANG"] = "C.UTF-8",
        };
        if (request.Columns > 0)
        {
            variables["TERM"] = "xterm-256color";
        }

        for (var i = 0; i < request.Environment.Count; i += 2)
        {
            variables[request.Environment[i]] = request.Environment[i + 1];
        }

        variables[CommandMark.Variable] = request.Id;
        return [.. variables.Select(v => $"{v.Key}={v.Value}")];
    }

    /// <summary>The paths to try, as execvp(3) does, by the PATH of the process.</summary>
    public static IReadOnlyList<string> ProgramsOf(StartRequest request, IReadOnlyList<string> environment)
    {
        if (request.Code is not null)
        {
            return ShellCode.ProgramsFor(environment);
        }

        if (request.Arguments.Count == 0 || request.Arguments[0].Length == 0)
        {
            throw new RequestFailedException(FailureKind.Program, "no program is named");
        }

        var program = request.Arguments[0];
        return program.Contains('/')
            ? [program]
            : [.. environment.First(v => v.StartsWith($"{Path}=", StringComparison.Ordinal))[(Path.Length + 1)..].Split(':')
                .Select(d => d.Length == 0 ? program : $"{d}/{program}")];
    }
}
