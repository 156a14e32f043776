using System.CommandLine;
using System.Text.Json;
using Pandora.Contracts;
using Pandora.Load;

namespace Pandora.Cli.Commands;

/// <summary><c>stress</c>: load on a running service, figures as client and server measured them, and a check for leaks.</summary>
internal static class StressCommand
{
    private static readonly LoadPlan Defaults = new();
    private static readonly string ExecTimeouts = $"{Limits.MinExecTimeout:0} to {Limits.MaxTimeout:0}";

    public static Command Create()
    {
        var requests = new Option<int>("--requests", "-n")
        {
            Description = "Sandboxes in all",
            DefaultValueFactory = _ => Defaults.Requests,
        };
        var parallel = new Option<int>("--parallel", "-p")
        {
            Description = "Sandboxes at a time (closed loop)",
            DefaultValueFactory = _ => Defaults.Parallel,
        };
        var execs = new Option<int>("--execs-per", "-e") { Description = "Commands in each", DefaultValueFactory = _ => Defaults.ExecsPer };
        var code = new Option<string>("--code", "-c") { Description = "The command", DefaultValueFactory = _ => Defaults.Code };
        var rate = new Option<double?>("--rate")
        {
            Description =
                "Sandboxes a second, started whether or not earlier ones are done (open loop): times count from when each was due, "
                    + "those of refused claims included",
        };
        var duration = new Option<double?>("--duration") { Description = "Seconds after which no more are started; -n is not used then" };
        var burst = new Option<int?>("--burst")
        {
            Description = "Claim this many at the same instant, again and again until -n or --duration is reached; without either, once",
        };
        var template = new Option<string>("--template") { Description = "Template to start from" };
        var timeout = new Option<double>("--timeout")
        {
            Description = $"Seconds that a command may take, {ExecTimeouts}",
            DefaultValueFactory = _ => Defaults.ExecTimeout,
        };
        var slo = new Option<string[]>("--slo")
        {
            Description =
                "Objective that sets the exit code, such as 'acquire.p99<5ms', 'exec.server.p50<=200ms', 'errors<1%', "
                    + "'throughput>2'; may be repeated",
        };
        var baseline = new Option<FileInfo>("--baseline") { Description = "Report of an earlier run (--json) to compare with" };
        var quiet = new Option<bool>("--quiet", "-q") { Description = "Leave out each sandbox's line" };
        var command = new Command(
            "stress",
            "Put load on a running service, measure it, and check for leaks. Exit code 1: nothing succeeded, an objective was "
                + "missed, or something leaked")
        {
            requests, parallel, execs, code, rate, duration, burst, template, timeout, slo, baseline, quiet,
        };
        command.SetAction(async (result, cancellationToken) =>
        {
            var isRequestsGiven = result.GetResult(requests) is { Implicit: false };
            var plan = new LoadPlan
            {
                Requests = isRequestsGiven || result.GetValue(burst) is not { } size ? result.GetValue(requests) : size,
                Parallel = result.GetValue(parallel),
                ExecsPer = result.GetValue(execs),
                Code = result.GetValue(code)!,
                Rate = result.GetValue(rate),
                Duration = result.GetValue(duration),
                Burst = result.GetValue(burst),
                Template = result.GetValue(template),
                ExecTimeout = result.GetValue(timeout),
            };
            Check(plan);
            var objectives = (result.GetValue(slo) ?? []).Select(ParseObjective).ToList();
            var earlier = result.GetValue(baseline) is { } file ? ReadReport(file) : null;
            using var pandora = Shared.Connect(result);
            var output = new StressOutput(asJson: result.GetValue(Shared.Json), isQuiet: result.GetValue(quiet));
            var run = new LoadRun(pandora, result.GetRequiredValue(Shared.Url), plan, TimeProvider.System) { Finished = output.Show };
            var report = await output.WatchAsync(run, plan, run.RunAsync(cancellationToken));
            report = report with { Slo = [.. objectives.Select(o => o.Check(report))] };
            output.Show(report, earlier);
            return report.IsInterrupted ? 130
                : report.Succeeded == 0 || !report.Leaks.IsClean || report.Slo.Any(s => !s.IsMet) ? 1
                : 0;
        });
        return command;
    }

    private static void Check(LoadPlan plan)
    {
        foreach (var (name, isGood, expected) in new[]
        {
            ("--requests", plan.Requests >= 1, "at least 1"),
            ("--parallel", plan.Parallel is >= 1 and <= 1024, "1 to 1024"),
            ("--execs-per", plan.ExecsPer >= 0, "at least 0"),
            ("--rate", plan.Rate is null or (> 0 and <= 10_000), "over 0 and at most 10000 a second"),
            ("--duration", plan.Duration is null or > 0, "over 0 seconds"),
            ("--burst", plan.Burst is null or (>= 1 and <= 4096), "1 to 4096"),
            ("--timeout", plan.ExecTimeout is >= Limits.MinExecTimeout and <= Limits.MaxTimeout, $"{ExecTimeouts} seconds"),
            ("--code", plan.Code.Length > 0, "a command"),
        })
        {
            if (!isGood)
            {
                throw new UsageException($"{name} must be {expected}");
            }
        }
    }

    private static Slo ParseObjective(string text)
    {
        try
        {
            return Slo.Parse(text);
        }
        catch (FormatException e)
        {
            throw new UsageException($"--slo: {e.Message}");
        }
    }

    private static LoadReport ReadReport(FileInfo file)
    {
        try
        {
            return JsonSerializer.Deserialize(File.ReadAllText(file.FullName), LoadJson.Default.LoadReport)
                ?? throw new JsonException("it is empty");
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"--baseline: {file.FullName} is no report of 'stress --json': {e.Message.Split('\n')[0]}");
        }
    }
}
