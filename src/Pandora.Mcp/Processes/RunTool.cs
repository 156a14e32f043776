using System.ComponentModel;
using System.Diagnostics.CodeAnalysis;
using Pandora.Engine;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp.Processes;

/// <summary>Arguments of <c>run</c>.</summary>
internal sealed record RunArguments
{
    [Description("Shell text for bash.")]
    public required string Command { get; init; }

    [Description(Texts.Sandbox)]
    public string? Sandbox { get; init; }

    [Description("Most seconds to wait for its end, 0 to 45; 45 if left out. It runs on afterwards.")]
    public double? Wait { get; init; }

    [Description(Texts.Cwd)]
    public string? Cwd { get; init; }

    [Description(Texts.Env)]
    public IReadOnlyDictionary<string, string>? Env { get; init; }

    [Description(Texts.User)]
    public string? User { get; init; }

    [Description("Text for its standard input.")]
    public string? Stdin { get; init; }

    [Description(Texts.MaxChars)]
    public int? MaxChars { get; init; }
}

/// <summary>Runs a command, and answers within the time that clients wait: a command that runs on gets a handle.</summary>
internal sealed class RunTool() : PandoraTool<RunArguments, OutputAnswer>(
    "run",
    "Run a command",
    "Runs shell text in a sandbox: a Linux computer of your own, in which you are root. It waits for the end, 45 s at most; a command "
        + "that needs longer runs on, and the answer has a handle for process_read. Files and background processes stay in the sandbox for "
        + "later calls; the working directory, variables, and what a background process writes after the end do not: process_start is for "
        + "servers. An exit code other than 0 is an answer, not an error.",
    Texts.Does(isDestructive: true, isOpen: true))
{
    /// <inheritdoc/>
    [SuppressMessage("Reliability", "CA2000", Justification = "The call disposes of what it owns.")]
    protected override async Task<ToolAnswer<OutputAnswer>> CallAsync(ToolCall call, RunArguments arguments)
    {
        var until = new ReadUntil { Deadline = ReadUntil.WaitOf(arguments.Wait ?? ReadUntil.LongestWait) };
        var window = new OutputWindow(ReadUntil.CharsOf(arguments.MaxChars), start: 0);
        var spec = ProcessSpecs.Of(arguments.Command, arguments.Cwd, arguments.Env, arguments.User) with
        {
            HasInput = arguments.Stdin is not null,
        };
        var sandbox = await call.SandboxAsync(arguments.Sandbox);
        var process = call.Keep(await ProcessSpecs.OpenAsync(sandbox, spec, call.Stop));
        process.Hold();
        var stdin = arguments.Stdin is { } text ? call.Own(new StdinFeed(process, text)) : null;
        try
        {
            var reason = await new ProcessReading(call, process, window, until).ReadAsync();
            StdinState? taken = stdin is null ? null : await stdin.StopAsync();
            return await ProcessAnswers.OfAsync(call, sandbox, process, window, reason, taken);
        }
        catch (PandoraException e) when (
            e.Error == PandoraError.ShuttingDown || (e.Error == PandoraError.GuestUnreachable && call.NewSandbox is null))
        {
            // The next server knows it, with its sandbox.
            call.ToldHandle = ProcessHandle.Of(sandbox, process.Id);
            throw;
        }
    }
}
