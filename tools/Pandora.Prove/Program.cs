using Pandora.Client;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Pandora.Prove;
using Pandora.Prove.Checks;
using Pandora.TestHost;
using Pandora.Linux;

// './pandora prove' runs the real server in a world of network namespaces on this host. It does not touch a running service, the network or
// other guests.
var json = new Option<bool>("--json") { Description = "Print JSON" };
const string Description =
    "Checks on this host, in one to two minutes, what Pandora guarantees: isolation (each refusal with a positive control), timeouts, "
        + "kill -9 of server and VMM, no leaks; and measures the speed. Exit code 1: a check failed";
var root = new RootCommand(Description) { json };
root.SetAction(async (result, cancellationToken) =>
{
    var start = Stopwatch.GetTimestamp();
    var outcomes = new List<Outcome>();
    var figures = new Dictionary<string, string>();
    void Report(Outcome outcome)
    {
        outcomes.Add(outcome);
        if (!result.GetValue(json))
        {
            Console.WriteLine($"{(outcome.Holds ? "holds " : "FAILS ")}  {outcome.Name,-76} {outcome.Detail}");
        }
    }

    async Task TryAsync(string name, Func<Task<string>> run)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var began = Stopwatch.GetTimestamp();
        try
        {
            var seen = await run().WaitAsync(TimeSpan.FromMinutes(2), TimeProvider.System, cancellationToken);
            Report(new Outcome(name, true, seen, Math.Round(Stopwatch.GetElapsedTime(began).TotalSeconds, 1)));
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            Report(new Outcome(name, false, e.Message, Math.Round(Stopwatch.GetElapsedTime(began).TotalSeconds, 1)));
        }
    }

    try
    {
        Console.Error.WriteLine("  starting a separate server in a separate network …");
        // The VMM that the user chose for the service is the one that is checked.
        var settings = new[] { "VMM", "ACCEL", "FIRECRACKER", "JAILER", "JAIL" }.Select(n => $"PANDORA_{n}")
            .Select(n => (Name: n, Value: Environment.GetEnvironmentVariable(n)))
            .Where(s => s.Value is { Length: > 0 })
            .ToDictionary(s => s.Name, s => s.Value!);
        settings.TryAdd("PANDORA_VMM", "auto");
        var stage = await Stage.CreateAsync(settings);
        try
        {
            foreach (var check in Isolation.All.Concat(NetworkProtection.All).Concat(Forks.All).Concat(Lifecycle.All))
            {
                await TryAsync(check.Name, async () =>
                {
                    var options = new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) };
                    var sandbox = await stage.Server.Pandora.CreateAsync(options, cancellationToken);
                    try
                    {
                        return await check.RunAsync(stage, sandbox);
                    }
                    finally
                    {
                        // The check may have killed the sandbox's VMM or the server.
                        await stage.Server.Pandora.DeleteAsync(sandbox.Id, CancellationToken.None)
                            .ContinueWith(_ => { }, TaskScheduler.Default);
                    }
                });
            }

            foreach (var (name, value) in await Figures.MeasureAsync(stage))
            {
                figures[name] = value;
            }
        }
        finally
        {
            await TryAsync("the end of the server leaves no resource on the host", async () =>
            {
                await stage.DisposeAsync();
                return "scanned by name and by record";
            });
        }
    }
    catch (OperationCanceledException)
    {
        Console.Error.WriteLine("pandora: interrupted; everything that was created is removed");
        return 130;
    }
    catch (Exception e) when (e is TestHostException or CommandException or IOException)
    {
        Console.Error.WriteLine($"pandora: the checks could not run: {e.Message}");
        return 1;
    }

    var failed = outcomes.Count(o => !o.Holds);
    if (result.GetValue(json))
    {
        var options = new JsonSerializerOptions(JsonSerializerDefaults.Web) { WriteIndented = true };
        Console.WriteLine(JsonSerializer.Serialize(new { checks = outcomes, figures, failed }, options));
    }
    else
    {
        Console.WriteLine();
        foreach (var (name, value) in figures)
        {
            Console.WriteLine($"{name,-24} {value}");
        }

        var seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        Console.WriteLine(
            string.Create(CultureInfo.InvariantCulture, $"\n{outcomes.Count - failed} hold, {failed} fail, in {seconds:0} s"));
    }

    return failed == 0 ? 0 : 1;
});
return await root.Parse(args).InvokeAsync();

/// <summary>The result of one check.</summary>
internal sealed record Outcome(string Name, bool Holds, string Detail, double Seconds);
