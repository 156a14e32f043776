using System.CommandLine;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary>The options by which commands give a new sandbox a size other than its template's. The server checks them.</summary>
internal sealed class SizeOptions
{
    private readonly Option<int?> _memory = new("--memory")
    {
        Description = $"Memory in MiB, {Limits.MinMemoryMib} to {Limits.MaxMemoryMib} (default: the template's)",
        HelpName = "MiB",
    };

    private readonly Option<int?> _vcpus = new("--vcpus")
    {
        Description = $"Virtual CPUs, 1 to {Limits.MaxVcpus} (default: the template's)",
        HelpName = "number",
    };

    private readonly Option<int?> _disk = new("--disk")
    {
        Description = $"Size of the disk in MiB, {Limits.MinDiskMib} to {Limits.MaxDiskMib}, at least the template's, which is the default",
        HelpName = "MiB",
    };

    public void AddTo(Command command)
    {
        command.Options.Add(_memory);
        command.Options.Add(_vcpus);
        command.Options.Add(_disk);
    }

    /// <summary>The request with the size that the command line asks for.</summary>
    public CreateSandboxRequest AddTo(CreateSandboxRequest request, ParseResult result) => request with
    {
        MemoryMib = result.GetValue(_memory),
        Vcpus = result.GetValue(_vcpus),
        DiskMib = result.GetValue(_disk),
    };
}
