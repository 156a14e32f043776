using System.CommandLine;
using Pandora.Cli.Mcp;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary><c>mcp</c>: a bridge between an agent's host, which starts this program, and the MCP front end of a running server.</summary>
internal static class McpCommand
{
    private static readonly TimeSpan StartLimit = TimeSpan.FromSeconds(20);

    public static Command Create()
    {
        var allow = new Option<string[]>("--allow")
        {
            Description = "Directory of this machine whose files the agent may upload to sandboxes, and into which it may download; may be "
                + "repeated (default: none, and the tools upload and download are not offered)",
            HelpName = "dir",
        };
        var template = new Option<string>("--template") { Description = "Template of the agent's own sandbox" };
        var egress = new Option<string>("--egress") { Description = "What the agent's own sandbox may reach: internet or none" };
        var idle = new Option<string>("--idle-timeout")
        {
            Description = $"Time without use after which it ends, such as 900s or 1h, at least {Limits.MinIdleTimeout:0}s (default: 15m)",
            HelpName = "time",
        };
        var command = new DescribedCommand(
            "mcp",
            "Serve sandboxes as tools to an agent: MCP on standard input and output. It needs a running server, and ends the sandboxes "
                + "that were made through it when its standard input ends",
            "./pandora mcp --help", "./pandora mcp --allow ~/project      # the agent may also exchange files below ~/project",
            "claude mcp add pandora -- $PWD/pandora mcp")
        {
            allow,
            template,
            egress,
            idle,
        };
        command.SetAction(async (result, _) =>
        {
            // Whatever a library prints: standard output is the protocol's.
            Console.SetOut(Console.Error);
            var own = new OwnSandboxOptions(
                result.GetValue(template), EgressOf(result.GetValue(egress)),
                result.GetValue(idle) is { } time ? IdleOf(Duration.Parse("--idle-timeout", time).TotalSeconds) : null);
            var allowed = new AllowedDirectories(result.GetValue(allow) ?? []);
            using var pandora = Shared.Connect(result);
            using var signals = new EndSignals();
            await CheckAsync(pandora, signals.Ended);
            await using var upstream = new Upstream(pandora.Api);
            await using var sandboxes = new BridgeSandboxes(pandora.Api, upstream, own, TimeProvider.System);
            using var local = new LocalTools(pandora, allowed, TimeProvider.System);
            var bridge = new Bridge(upstream, sandboxes, local, TimeProvider.System);
            await using var host = new HostTransport(new StandardInput(), new StandardOutput(), signals.Ended);
            await bridge.ServeAsync(host);
            return 0;
        });
        return command;
    }

    // It says what is wrong with the address or the key before the host waits for an answer.
    private static async Task CheckAsync(PandoraClient pandora, CancellationToken ended)
    {
        using var limit = new CancellationTokenSource(StartLimit, TimeProvider.System);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(ended, limit.Token);
        try
        {
            await pandora.Api.GetHealthAsync(stop.Token);
        }
        catch (Exception) when (limit.IsCancellationRequested && !ended.IsCancellationRequested)
        {
            throw new StoppedException(
                $"the server at {pandora.Api.Url} did not answer within {StartLimit.TotalSeconds:0} s", Failure.Failed);
        }
    }

    // What can be known before the host asks is said at once.
    private static string? EgressOf(string? egress) => egress is null or "internet" or "none"
        ? egress
        : throw new UsageException($"--egress must be internet or none, and is '{egress}'");

    private static double IdleOf(double seconds) => seconds >= Limits.MinIdleTimeout
        ? seconds
        : throw new UsageException($"--idle-timeout must be at least {Limits.MinIdleTimeout:0}s");
}
