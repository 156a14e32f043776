using System.CommandLine;
using System.Net;
using Pandora.Cli.Ports;
using Pandora.Cli.Sessions;

namespace Pandora.Cli.Commands;

/// <summary><c>forward</c>: ports of a sandbox as ports of this machine.</summary>
internal static class ForwardCommand
{
    public static Command Create()
    {
        var id = Suggestions.SandboxArgument();
        var ports = new Argument<string[]>("ports")
        {
            Description = "LOCAL:PORT, or PORT for the same on both sides. LOCAL 0 is any that is free",
            HelpName = "[local:]port",
            Arity = ArgumentArity.OneOrMore,
        };
        Shared.RefuseOptions(ports);
        var address = new Option<string>("--address")
        {
            Description = "Address of this machine to listen on (default: 127.0.0.1). On another, others use the ports without a key",
        };
        var stdio = new Option<bool>("--stdio") { Description = "Connect standard input and output to the port, and listen on none" };
        var keepAlive = new Option<bool>("--keep-alive")
        {
            Description = "Keep the sandbox alive meanwhile. Without it, only bytes that move are activity",
        };
        var command = new DescribedCommand(
            "forward", "Make ports of a sandbox ports of this machine, until Ctrl-C or until the sandbox ends",
            "./pandora forward ID 8080:3000           # http://127.0.0.1:8080/ is port 3000 of the sandbox",
            "./pandora forward ID 3000 5432 0:9229",
            "printf 'PING\\r\\n' | ./pandora forward ID --stdio 6379")
        {
            id,
            ports,
            address,
            stdio,
            keepAlive,
        };
        command.SetAction(async (result, _) =>
        {
            var (sandbox, words) = (result.GetRequiredValue(id), result.GetRequiredValue(ports));
            if (result.GetValue(stdio))
            {
                return await ConnectAsync(result, sandbox, words);
            }

            var forwards = words.Select(PortForward.Parse).ToList();
            var local = LocalAddress(result.GetValue(address) ?? "127.0.0.1");
            using var pandora = Shared.Connect(result);
            using var interruption = Interruption.Listen();
            using var forwarder = new Forwarder(pandora.Connect(sandbox), result.GetValue(keepAlive), Console.Error.WriteLine);
            try
            {
                await forwarder.CheckAsync(interruption.Leaving);
                foreach (var forward in forwards)
                {
                    var listens = forwarder.Listen(new IPEndPoint(local, forward.LocalPort), forward.Port);
                    Say(result, listens, forward.Port, sandbox);
                }

                await forwarder.RunAsync(interruption.Leaving);
                return 0;
            }
            catch (OperationCanceledException) when (interruption.Leaving.IsCancellationRequested)
            {
                throw new StoppedException("interrupted; the forwarding has ended", interruption.ExitCode);
            }
        });
        return command;
    }

    private static async Task<int> ConnectAsync(ParseResult result, string sandbox, string[] words)
    {
        if (words.Length != 1 || !PortForward.TryPort(words[0], least: 1, out var port))
        {
            throw new UsageException("--stdio takes one port of the sandbox, such as 3000");
        }

        // No signal is caught: this ends as any program between two pipes does.
        using var pandora = Shared.Connect(result);
        await using var stream = await pandora.Connect(sandbox).Ports.ConnectAsync(port);
        await StandardStreams.ConnectAsync(stream);
        return 0;
    }

    private static void Say(ParseResult result, IPEndPoint local, int port, string sandbox)
    {
        if (result.GetValue(Shared.Json))
        {
            Shared.PrintJson(new ForwardedPort(local.Address.ToString(), local.Port, port), CliJson.Default.ForwardedPort);
            return;
        }

        var others = IPAddress.IsLoopback(local.Address) ? "" : "; everybody who can reach this machine can use it, without a key";
        Console.Error.WriteLine($"forwarding {local} to port {port} of sandbox {sandbox}{others}");
    }

    private static IPAddress LocalAddress(string text) =>
        text == "localhost" ? IPAddress.Loopback
        : IPAddress.TryParse(text, out var address) ? address
        : throw new UsageException($"--address: '{text}' is no IP address such as 127.0.0.1 or ::1");
}
