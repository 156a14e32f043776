using System.CommandLine;
using Pandora.Cli.Ssh;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary>The options by which commands open a new sandbox to browsers and to SSH. The server checks them.</summary>
internal sealed class PortOptions
{
    private readonly Option<int[]> _publicPorts = new("--public-port")
    {
        Description = "Port whose preview needs neither key nor link; may be repeated",
        HelpName = "port",
    };

    private readonly Option<string[]> _sshKeys = new("--ssh-key")
    {
        Description = "File with the public keys that may log in by SSH, one a line; may be repeated",
        HelpName = "file",
    };

    public void AddTo(Command command)
    {
        command.Options.Add(_publicPorts);
        command.Options.Add(_sshKeys);
    }

    /// <summary>The request with the ports and keys that the command line names.</summary>
    /// <exception cref="UsageException">A file has no public keys.</exception>
    public CreateSandboxRequest AddTo(CreateSandboxRequest request, ParseResult result) => request with
    {
        PublicPorts = result.GetValue(_publicPorts) is { Length: > 0 } ports ? ports : null,
        SshKeys = result.GetValue(_sshKeys) is { Length: > 0 } files ? [.. files.SelectMany(PublicKeys.ReadFile)] : null,
    };
}
