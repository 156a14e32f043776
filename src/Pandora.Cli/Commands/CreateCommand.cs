using System.CommandLine;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary><c>create</c>: claim a sandbox and print its id.</summary>
internal static class CreateCommand
{
    public static Command Create()
    {
        var template = new Option<string>("--template") { Description = "Template to start from" };
        var idle = new Option<double?>("--idle-timeout")
        {
            Description = $"Idle seconds after which it is ended, at least {Limits.MinIdleTimeout:0}, at most what './pandora health' says",
        };
        var egress = new Option<string>("--egress") { Description = "internet or none" };
        var (size, ports) = (new SizeOptions(), new PortOptions());
        var metadata = new Option<string[]>("--metadata") { Description = "Pair to find it again by, name=value; may be repeated" };
        var idempotencyKey = new Option<string>("--idempotency-key")
        {
            Description = "Name of this request: sent again with it, it gets the same sandbox",
        };
        var command = new Command("create", "Claim a sandbox and print its id") { template, idle, egress, metadata, idempotencyKey };
        size.AddTo(command);
        ports.AddTo(command);
        command.SetAction(async (result, cancellationToken) =>
        {
            using var pandora = Shared.Connect(result);
            var pairs = Shared.Pairs("--metadata", result.GetValue(metadata));
            var request = new CreateSandboxRequest(
                result.GetValue(idle), result.GetValue(template), pairs, result.GetValue(egress));
            request = ports.AddTo(size.AddTo(request, result), result);
            var created = await pandora.Api.CreateAsync(request, result.GetValue(idempotencyKey), cancellationToken);
            if (result.GetValue(Shared.Json))
            {
                Shared.PrintJson(created, PandoraJson.Default.SandboxCreated);
            }
            else
            {
                Console.WriteLine(created.SandboxId);
            }
        });
        return command;
    }
}
