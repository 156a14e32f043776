using System.CommandLine;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary><c>link</c>: an address that opens a preview without a key.</summary>
internal static class LinkCommand
{
    public static Command Create()
    {
        var id = Suggestions.SandboxArgument();
        var port = Suggestions.PortArgument(id);
        var expires = new Option<string>("--expires")
        {
            Description = "Time after which it opens nothing any more, such as 90s, 15m, 1h or 7d, at most 7d (default: 1h)",
            HelpName = "time",
        };
        var command = new DescribedCommand(
            "link", "Print a link that opens a port of a sandbox in a browser. Everybody who has it can use the port until it expires",
            "./pandora link ID 3000", "./pandora link ID 3000 --expires 15m")
        {
            id,
            port,
            expires,
        };
        command.SetAction(async (result, cancellationToken) =>
        {
            var request = new PortLinkRequest(
                result.GetValue(expires) is { } time ? Duration.Parse("--expires", time).TotalSeconds : null);
            using var pandora = Shared.Connect(result);
            var link = await pandora.Api.CreateLinkAsync(
                result.GetRequiredValue(id), result.GetRequiredValue(port), request, cancellationToken);
            if (result.GetValue(Shared.Json))
            {
                Shared.PrintJson(link, PandoraJson.Default.PortLink);
            }
            else
            {
                Console.WriteLine(link.Url);
            }
        });
        return command;
    }
}
