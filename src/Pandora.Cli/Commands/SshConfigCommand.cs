using System.CommandLine;
using Pandora.Cli.Ssh;

namespace Pandora.Cli.Commands;

/// <summary><c>ssh-config</c>: what other programs need to reach a sandbox by SSH.</summary>
internal static class SshConfigCommand
{
    public static Command Create()
    {
        var id = Suggestions.SandboxArgument();
        var user = SshCommand.UserOption();
        var command = new DescribedCommand(
            "ssh-config",
            "Print the block of ~/.ssh/config by which ssh, scp, sftp, rsync, git and editors reach a sandbox as pandora-ID. It is also "
                + "written to ~/.config/pandora/ssh/ID.config",
            "./pandora ssh-config ID >> ~/.ssh/config", "scp -F ~/.config/pandora/ssh/ID.config report.txt pandora-ID:")
        {
            id,
            user,
        };
        command.SetAction(async (result, cancellationToken) =>
        {
            using var pandora = Shared.Connect(result);
            var host = await new SshAccessFiles(pandora, new SshDirectory(SshDirectory.UsualPath, TimeProvider.System))
                .PrepareAsync(result.GetRequiredValue(id), SshCommand.UserOf(result, user), cancellationToken);
            if (result.GetValue(Shared.Json))
            {
                Shared.PrintJson(host, CliJson.Default.SshHost);
            }
            else
            {
                Console.Write(await File.ReadAllTextAsync(host.ConfigFile, cancellationToken));
            }
        });
        return command;
    }
}
