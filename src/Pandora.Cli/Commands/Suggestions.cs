using System.CommandLine;
using System.CommandLine.Completions;
using Pandora.Cli.Ports;
using Pandora.Client;

namespace Pandora.Cli.Commands;

/// <summary>Arguments whose values a shell's completion asks the server for.</summary>
internal static class Suggestions
{
    // A key is waiting for it.
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(1);
    private static readonly string[] Signals = ["TERM", "INT", "KILL", "HUP", "QUIT", "USR1", "USR2", "STOP", "CONT", "WINCH"];

    /// <summary>The id of a sandbox.</summary>
    public static Argument<string> SandboxArgument()
    {
        var argument = new Argument<string>("id") { Description = "Id of the sandbox", HelpName = "id" };
        Shared.RefuseOptions(argument);
        argument.CompletionSources.Add(SandboxIds);
        return argument;
    }

    /// <summary>The id of a process in a sandbox.</summary>
    public static Argument<string> ProcessArgument(Argument<string> sandbox)
    {
        var argument = new Argument<string>("process_id")
        {
            Description = "Id of the process, as 'ps' shows it",
            HelpName = "process_id",
        };
        Shared.RefuseOptions(argument);
        argument.CompletionSources.Add(context => Ask(
            context, async (pandora, cancellationToken) => context.ParseResult.GetValue(sandbox) is { Length: > 0 } id
                ? (await pandora.Api.ListProcessesAsync(id, cancellationToken)).Select(p => p.ProcessId)
                : []));
        return argument;
    }

    /// <summary>A port of a sandbox.</summary>
    public static Argument<int> PortArgument(Argument<string> sandbox)
    {
        var argument = new Argument<int>("port") { Description = "Port of the sandbox, 1 to 65535", HelpName = "port" };
        argument.Validators.Add(result =>
        {
            foreach (var token in result.Tokens.Where(t => !PortForward.TryPort(t.Value, least: 1, out _)))
            {
                result.AddError(token.Value.StartsWith('-') ? $"there is no option '{token.Value}'" : $"'{token.Value}' is no port");
            }
        });
        argument.CompletionSources.Add(context => Ask(
            context, async (pandora, cancellationToken) => context.ParseResult.GetValue(sandbox) is { Length: > 0 } id
                ? (await pandora.Api.ListPortsAsync(id, cancellationToken)).Select(p => $"{p.Port}")
                : []));
        return argument;
    }

    /// <summary>The name or number of a signal.</summary>
    public static Argument<string> SignalArgument()
    {
        var argument = new Argument<string>("signal")
        {
            Description = "Name or number of the signal",
            HelpName = "signal",
            DefaultValueFactory = _ => "TERM",
        };
        argument.CompletionSources.Add(_ => Signals.Select(s => new CompletionItem(s)));
        return argument;
    }

    /// <summary>The ids of the sandboxes.</summary>
    public static IEnumerable<CompletionItem> SandboxIds(CompletionContext context) => Ask(
        context, async (pandora, cancellationToken) => (await pandora.ListAsync(null, cancellationToken)).Select(s => s.Id));

    // Completion has no place for an error: without an answer it suggests nothing.
    private static List<CompletionItem> Ask(
        CompletionContext context, Func<PandoraClient, CancellationToken, Task<IEnumerable<string>>> ask)
    {
        try
        {
            using var pandora = Shared.Connect(context.ParseResult);
            using var limit = new CancellationTokenSource(Limit, TimeProvider.System);
            var values = Task.Run(() => ask(pandora, limit.Token)).GetAwaiter().GetResult();
            var fitting = values.Where(v => v.StartsWith(context.WordToComplete, StringComparison.Ordinal));
            return [.. fitting.Select(v => new CompletionItem(v))];
        }
        catch (Exception e) when (e is PandoraClientException or OperationCanceledException or UsageException)
        {
            return [];
        }
    }
}
