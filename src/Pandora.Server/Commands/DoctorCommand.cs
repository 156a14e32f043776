using System.CommandLine;
using System.Text.Json;
using Pandora.Engine;
using Pandora.Server.Doctor;
using Pandora.Server.Hosting;
using Pandora.Vmm;

namespace Pandora.Server.Commands;

/// <summary>
/// <c>doctor</c>: checks what Pandora needs on this host and prints one line for each check. Exit code 1 when Pandora cannot run.
/// </summary>
internal static class DoctorCommand
{
    public static Command Create()
    {
        var json = new Option<bool>("--json") { Description = "Print JSON" };
        var leaks = new Option<bool>("--leaks")
        {
            Description = "List every resource of this instance on the host with its owner. Exit code 1: a resource has no owner",
        };
        var fix = new Option<bool>("--fix") { Description = "With --leaks: remove the resources that have no owner" };
        var command = new Command(
            "doctor",
            "Check everything that Pandora needs on this host, and say what to do about what is missing. "
                + "Exit code 1: Pandora cannot run on this host as it is")
        {
            json, leaks, fix,
        };
        command.SetAction(async (result, cancellationToken) =>
        {
            var options = Settings.Read<EngineOptions>(Settings.File());
            var vmmOptions = Settings.Read<VmmOptions>(Settings.File());
            if (result.GetValue(leaks) || result.GetValue(fix))
            {
                var machines = vmmOptions.Choice(options.DataDir, options.MachineDir);
                return await LeaksCommand.RunAsync(options, machines, result.GetValue(fix), result.GetValue(json), cancellationToken);
            }

            var findings = await new HostChecks(options, vmmOptions, TimeProvider.System).RunAsync(cancellationToken);
            if (result.GetValue(json))
            {
                Console.WriteLine(JsonSerializer.Serialize(findings, HostCheckJson.Default.IReadOnlyListHostCheckResult));
            }
            else
            {
                foreach (var finding in findings)
                {
                    var status = finding.Status switch
                    {
                        HostCheckStatus.Ok => "ok",
                        HostCheckStatus.Warning => "warning",
                        _ => "PROBLEM",
                    };
                    Console.WriteLine($"{status,-7}  {finding.Name,-14} {finding.Detail}");
                    if (finding.Remedy is not null)
                    {
                        Console.WriteLine($"{"",24} → {finding.Remedy}");
                    }
                }
            }

            return findings.Any(f => f.Status == HostCheckStatus.Problem) ? 1 : 0;
        });
        return command;
    }
}
