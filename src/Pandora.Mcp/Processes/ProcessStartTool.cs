using System.ComponentModel;
using Pandora.Engine;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp.Processes;

/// <summary>Arguments of <c>process_start</c>.</summary>
internal sealed record ProcessStartArguments
{
    [Description("Shell text for bash.")]
    public required string Command { get; init; }

    [Description(Texts.Sandbox)]
    public string? Sandbox { get; init; }

    [Description(Texts.Cwd)]
    public string? Cwd { get; init; }

    [Description(Texts.Env)]
    public IReadOnlyDictionary<string, string>? Env { get; init; }

    [Description(Texts.User)]
    public string? User { get; init; }

    [Description("Whether process_input will write to it.")]
    public bool? Input { get; init; }

    [Description("Seconds after which it is killed; never if left out.")]
    public double? Timeout { get; init; }
}

/// <summary>A process that was started.</summary>
internal sealed record StartedAnswer(
    string Sandbox, [property: Description(Texts.IsNew)] bool NewSandbox, [property: Description(Texts.Process)] string Process, int Pid);

/// <summary>Starts a process in the background.</summary>
internal sealed class ProcessStartTool() : PandoraTool<ProcessStartArguments, StartedAnswer>(
    "process_start",
    "Start a process",
    "Starts shell text in the background and answers at once: a server, a long build, a program that is asked things. process_read reads "
        + "its output and its end. It runs until its end, its timeout, or the sandbox's end.",
    Texts.Does(isDestructive: true, isOpen: true))
{
    /// <inheritdoc/>
    protected override async Task<ToolAnswer<StartedAnswer>> CallAsync(ToolCall call, ProcessStartArguments arguments)
    {
        var spec = ProcessSpecs.Of(arguments.Command, arguments.Cwd, arguments.Env, arguments.User) with
        {
            HasInput = arguments.Input == true,
            TimeLimit = TimeoutOf(arguments.Timeout),
        };
        var sandbox = await call.SandboxAsync(arguments.Sandbox);
        var process = call.Keep(await ProcessSpecs.OpenAsync(sandbox, spec, call.Stop));
        var handle = ProcessHandle.Of(sandbox, process.Id);
        return new(
            $"started process {handle}; process_read reads it; {call.Of(sandbox)}",
            new StartedAnswer(sandbox.Id, call.NewSandbox is not null, handle, process.Pid));
    }

    private static TimeSpan? TimeoutOf(double? seconds) => seconds switch
    {
        null => null,
        // The engine knows the longest.
        > 0 and < 1e9 => TimeSpan.FromSeconds(seconds.Value),
        _ => throw PandoraException.Invalid("timeout", "must be a number of seconds, at least 1"),
    };
}
