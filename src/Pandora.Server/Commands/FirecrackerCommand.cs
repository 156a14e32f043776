using System.CommandLine;
using Pandora.Engine;
using Pandora.Server.Hosting;
using Pandora.Vmm;
using Pandora.Vmm.Firecracker;

namespace Pandora.Server.Commands;

/// <summary><c>firecracker install</c>: an official release, verified.</summary>
internal static class FirecrackerCommand
{
    public static Command Create()
    {
        var version = new Option<string>("--version")
        {
            Description = "Release to install",
            DefaultValueFactory = _ => FirecrackerInstaller.Recommended.ToString(3),
        };
        var from = new Option<string>("--from") { Description = "Take the release's .tgz from a file instead of fetching it" };
        var sha256 = new Option<string>("--sha256") { Description = "Hold it to this checksum instead of the one published beside it" };
        var source = new Option<string>("--source")
        {
            Description = "Fetch from a mirror of the project's releases",
            DefaultValueFactory = _ => FirecrackerInstaller.Releases,
        };
        var install = new Command(
            "install",
            "Fetch an official release of Firecracker and its jailer for this machine, verify it, and use it from the next start on")
        {
            version, from, sha256, source,
        };
        install.SetAction(async (result, cancellationToken) =>
        {
            var text = result.GetRequiredValue(version).TrimStart('v');
            if (!Version.TryParse(text, out var wanted) || wanted.Build < 0 || wanted < FirecrackerBinaries.Oldest)
            {
                throw new StartupException($"--version: '{text}' is no release from {FirecrackerBinaries.Oldest} on, such as "
                    + $"{FirecrackerInstaller.Recommended}");
            }

            var options = Settings.Read<EngineOptions>(Settings.File());
            var installer = new FirecrackerInstaller(VmmOptions.InstallDirectoryIn(options.DataDir), Console.Error.WriteLine);
            var isNamed = result.GetResult(version) is { Implicit: false };
            _ = result.GetValue(from) is { } file
                ? await installer.InstallAsync(file, result.GetValue(sha256), isNamed ? wanted : null, cancellationToken)
                : await installer.DownloadAsync(wanted, result.GetRequiredValue(source), result.GetValue(sha256), cancellationToken);
            return 0;
        });
        return new Command("firecracker", "Install Firecracker, the VMM for production") { install };
    }
}
