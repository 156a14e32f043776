using System.CommandLine;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary><c>public</c>: whether the preview of a port needs a key.</summary>
internal static class PublicCommand
{
    public static Command Create()
    {
        var id = Suggestions.SandboxArgument();
        var port = Suggestions.PortArgument(id);
        var off = new Option<bool>("--off") { Description = "From now on it needs a key or a link again" };
        var command = new DescribedCommand(
            "public", "Let everybody who can reach the server use a port of a sandbox, without a key, and print the port's address",
            "./pandora public ID 3000", "./pandora public ID 3000 --off")
        {
            id,
            port,
            off,
        };
        command.SetAction(async (result, cancellationToken) =>
        {
            using var pandora = Shared.Connect(result);
            var access = await pandora.Api.SetPortAsync(
                result.GetRequiredValue(id), result.GetRequiredValue(port), new PortRequest(!result.GetValue(off)), cancellationToken);
            if (result.GetValue(Shared.Json))
            {
                Shared.PrintJson(access, PandoraJson.Default.PortAccess);
            }
            else
            {
                Console.WriteLine(access.PreviewUrl);
            }
        });
        return command;
    }
}
