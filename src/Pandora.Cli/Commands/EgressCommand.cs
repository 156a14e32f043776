using System.CommandLine;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary><c>egress</c>: what a living sandbox may reach.</summary>
internal static class EgressCommand
{
    public static Command Create()
    {
        var id = Suggestions.SandboxArgument();
        var egress = new Argument<string>("egress") { Description = "internet or none", HelpName = "internet|none" };
        egress.CompletionSources.Add("internet", "none");
        var command = new Command("egress", "Set what a sandbox may reach. With none, connections that are open are cut") { id, egress };
        command.SetAction(async (result, cancellationToken) =>
        {
            using var pandora = Shared.Connect(result);
            var sandbox = await pandora.Api.SetEgressAsync(
                result.GetRequiredValue(id), new EgressRequest(result.GetRequiredValue(egress)), cancellationToken);
            if (result.GetValue(Shared.Json))
            {
                Shared.PrintJson(sandbox, PandoraJson.Default.SandboxInfo);
            }
        });
        return command;
    }
}
