using System.CommandLine;
using System.Diagnostics;
using Pandora.Cli.Files;
using Pandora.Cli.Sessions;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary><c>run</c>: claim, run, tear down, and one line on standard error with the result.</summary>
internal static class RunCommand
{
    public static Command Create()
    {
        var (fresh, exec, copies) = (new FreshSandbox(), new CommandOptions(), new RunCopies());
        var command = new Command(
            "run",
            "Run one command in a fresh sandbox, and show its output as it comes; its exit code is passed on. 124: it timed out; "
                + "125: Pandora failed. Ctrl-C is passed on to the command, a second one kills it; the sandbox ends with it");
        fresh.AddTo(command);
        copies.AddTo(command);
        exec.AddTo(command);
        command.SetAction(async (result, _) =>
        {
            var spec = exec.Read(result);
            var plan = copies.Read(result, spec.User, fresh.IsQuiet(result));
            using var pandora = Shared.Connect(result);
            using var interruption = Interruption.Listen();
            return await fresh.UseAsync(result, pandora, interruption, async id =>
            {
                await plan.BringInAsync(pandora, id, interruption);
                (int ExitCode, double? RanMs) end;
                try
                {
                    end = await RunAsync(result, pandora, id, spec, interruption);
                }
                catch (ExecTimeoutException)
                {
                    await plan.TakeOutAsync(pandora, id, interruption);
                    throw;
                }

                var copied = await plan.TakeOutAsync(pandora, id, interruption);
                return (end.ExitCode == 0 ? copied : end.ExitCode, end.RanMs);
            });
        });
        return command;
    }

    private static async Task<(int ExitCode, double? RanMs)> RunAsync(
        ParseResult result, PandoraClient pandora, string id, CommandSpec spec, Interruption interruption)
    {
        if (result.GetValue(Shared.Json))
        {
            var response = await CommandOptions.CollectAsync(pandora, id, spec, interruption);
            Shared.PrintJson(response, PandoraJson.Default.ExecResponse);
            return (response.ExitCode, response.ExecMs);
        }

        var start = Stopwatch.GetTimestamp();
        var end = await CommandOptions.RunAsync(pandora, id, spec, interruption);
        var ran = end.Exit?.ExecMs ?? Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        return (end.ExitCode, end.Exit?.TimedOut == true ? null : ran);
    }
}
