using System.CommandLine;
using System.Text.Json;
using Pandora.Engine;
using Pandora.Server.Doctor;
using Pandora.Server.Hosting;
using Pandora.Vmm;

namespace Pandora.Server.Commands;

/// <summary><c>doctor</c>: one screen of what this host has and lacks. Exit code 1 when something keeps Pandora from running.</summary>
internal static class DoctorCommand
{
    public static Command Create()
    {
        var json = new Option<bool>("--json") { Description = "Print JSON" };
        var leaks = new Option<bool>("--leaks")
        {
            Description = "List everything that this instance has on the host, and whose it is. Exit code 1: something is nobody's",
        };
        var fix = new Option<bool>("--fix") { Description = "With --leaks: undo what is nobody's" };
        var command = new Command(
            "doctor",
            "Look at everything that Pandora needs on this host, and say what to do about what is missing. "
                + "Exit code 1: it does not run like this")
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
                return await AuditCommand.RunAsync(options, machines, result.GetValue(fix), result.GetValue(json), cancellationToken);
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
