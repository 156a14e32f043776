using System.CommandLine;
using Pandora.Engine;
using Pandora.Server.Hosting;
using Pandora.Vmm;
using Pandora.Vmm.Firecracker;

namespace Pandora.Server.Commands;

/// <summary><c>firecracker install</c>: installs an official release after verifying it.</summary>
internal static class FirecrackerCommand
{
    public static Command Create()
    {
        var version = new Option<string>("--version")
        {
            Description = "Release to install",
            DefaultValueFactory = _ => FirecrackerInstaller.Recommended.ToString(3),
        };
        var from = new Option<string>("--from") { Description = "Read the release's .tgz from this file instead of downloading it" };
        var sha256 = new Option<string>("--sha256")
        {
            Description = "Verify the .tgz with this checksum instead of the one that is published with it",
        };
        var source = new Option<string>("--source")
        {
            Description = "Download from this mirror of the project's releases",
            DefaultValueFactory = _ => FirecrackerInstaller.Releases,
        };
        var install = new Command(
            "install",
            "Download an official release of Firecracker and its jailer for this machine, verify it, and install it. "
                + "The server uses it from its next start on")
        {
            version, from, sha256, source,
        };
        install.SetAction(async (result, cancellationToken) =>
        {
            var text = result.GetRequiredValue(version).TrimStart('v');
            if (!Version.TryParse(text, out var wanted) || wanted.Build < 0 || wanted < FirecrackerBinaries.Oldest)
            {
                throw new StartupException(
                    $"--version: '{text}' is not a release of {FirecrackerBinaries.Oldest} or later, such as "
                        + $"{FirecrackerInstaller.Recommended}");
            }

            var options = Settings.Read<EngineOptions>(Settings.File());
            var installer = new FirecrackerInstaller(VmmOptions.InstallDirectoryIn(options.DataDir), Console.Error.WriteLine);
            var isVersionGiven = result.GetResult(version) is { Implicit: false };
            _ = result.GetValue(from) is { } file
                ? await installer.InstallAsync(file, result.GetValue(sha256), isVersionGiven ? wanted : null, cancellationToken)
                : await installer.DownloadAsync(wanted, result.GetRequiredValue(source), result.GetValue(sha256), cancellationToken);
            return 0;
        });
        return new Command("firecracker", "Install Firecracker, the VMM for production") { install };
    }
}
