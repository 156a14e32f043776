using System.CommandLine;
using System.Globalization;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary><c>run</c>: claim, run, tear down, and one line on standard error that tells what happened.</summary>
internal static class RunCommand
{
    public static Command Create()
    {
        var template = new Option<string>("--template") { Description = "Template to start from" };
        var egress = new Option<string>("--egress") { Description = "internet or none" };
        var quiet = new Option<bool>("--quiet", "-q") { Description = "Leave out the line that tells what happened" };
        var exec = new ExecOptions();
        var command = new Command("run", "Run one command in a fresh sandbox; its exit code is passed on") { template, egress, quiet };
        exec.AddTo(command);
        command.SetAction(async (result, cancellationToken) =>
        {
            using var pandora = Shared.Connect(result);
            var request = await exec.ReadAsync(result, cancellationToken);
            await using var sandbox = await pandora.CreateAsync(template: result.GetValue(template), egress: result.GetValue(egress), cancellationToken: cancellationToken);
            int exitCode;
            double? ranMs = null;
            try
            {
                var execution = await pandora.ExecAsync(sandbox.Id, request, cancellationToken);
                ranMs = execution.ExecMs;
                exitCode = ExecOptions.Print(execution);
            }
            catch (ExecTimeoutException timeout)
            {
                exitCode = ExecOptions.Print(timeout);
            }

            var receipt = await sandbox.EndAsync(cancellationToken);
            if (!result.GetValue(quiet))
            {
                PrintReceipt(sandbox, ranMs, receipt, result.GetValue(Shared.Json));
            }

            return exitCode;
        });
        return command;
    }

    private static void PrintReceipt(Sandbox sandbox, double? ranMs, Receipt receipt, bool asJson)
    {
        if (asJson)
        {
            Console.Error.WriteLine(System.Text.Json.JsonSerializer.Serialize(receipt, PandoraJson.Default.Receipt));
            return;
        }

        var ran = ranMs is null ? "timed out" : $"ran {Milliseconds(ranMs.Value)}";
        var claimed = $"claimed {Milliseconds(sandbox.AcquireMs)}{(sandbox.IsWarm ? "" : " (none was warm)")}";
        Console.Error.WriteLine($"{claimed} · {ran} · torn down {Milliseconds(receipt.TeardownMs)} · {receipt.Left} left · isolation: {receipt.Isolation}");
    }

    private static string Milliseconds(double ms) => string.Create(CultureInfo.InvariantCulture, $"{(ms < 10 ? Math.Round(ms, 1) : Math.Round(ms))} ms");
}
