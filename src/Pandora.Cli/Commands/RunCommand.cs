using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary><c>run</c>: claim, run, tear down, and one line on standard error with the result.</summary>
internal static class RunCommand
{
    private static readonly TimeSpan ClaimGrace = TimeSpan.FromSeconds(2), EndLimit = TimeSpan.FromSeconds(60);

    public static Command Create()
    {
        var template = new Option<string>("--template") { Description = "Template to start from" };
        var egress = new Option<string>("--egress") { Description = "internet or none" };
        var quiet = new Option<bool>("--quiet", "-q")
        {
            Description = "Leave out the line with the result (with --json: the receipt, one JSON object on standard error)",
        };
        var exec = new CommandOptions();
        var command = new Command(
            "run",
            "Run one command in a fresh sandbox; its exit code is passed on. 124: it timed out; 125: Pandora failed. Ctrl-C ends the "
                + "sandbox")
        {
            template,
            egress,
            quiet,
        };
        exec.AddTo(command);
        command.SetAction(async (result, cancellationToken) =>
        {
            var asJson = result.GetValue(Shared.Json);
            using var pandora = Shared.Connect(result);
            var request = await exec.ReadAsync(result, cancellationToken);
            var sandbox = await ClaimAsync(pandora, result.GetValue(template), result.GetValue(egress), cancellationToken);
            // Ends the sandbox when an exception ends this command first.
            await using var handle = new Sandbox(pandora.Api, sandbox, keepAlive: false);
            int exitCode;
            double? ranMs = null;
            try
            {
                var response = await pandora.Api.ExecAsync(sandbox.SandboxId, request, cancellationToken);
                ranMs = response.ExecMs;
                exitCode = CommandOptions.Print(response, asJson);
            }
            catch (ExecTimeoutException timeout)
            {
                exitCode = CommandOptions.Print(timeout, asJson);
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                handle.Detach();
                throw new StoppedException($"{StoppedException.CommandWords}; {await EndStoppedAsync(pandora, sandbox.SandboxId)}");
            }

            Receipt receipt;
            try
            {
                // Not cancelled by Ctrl-C: it takes milliseconds, and the receipt shows whether anything remains on the host.
                using var limit = new CancellationTokenSource(EndLimit, TimeProvider.System);
                handle.Detach();
                receipt = await pandora.Api.DeleteWithReceiptAsync(sandbox.SandboxId, limit.Token);
            }
            catch (Exception e) when (Failure.Of(e) is not null)
            {
                return NotEnded(sandbox.SandboxId, e, exitCode).Print(asJson);
            }

            if (!result.GetValue(quiet))
            {
                PrintReceipt(sandbox, ranMs, receipt, asJson);
            }

            return exitCode;
        });
        return command;
    }

    // The server may have created a sandbox whose id this program never receives. So a create under way is waited for, and its sandbox
    // ended.
    private static async Task<SandboxCreated> ClaimAsync(
        PandoraClient pandora, string? template, string? egress, CancellationToken cancellationToken)
    {
        using var claiming = new CancellationTokenSource();
        await using var grace = TimeProvider.System.CreateTimer(
            _ => claiming.Cancel(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        await using var stop = cancellationToken.Register(() => grace.Change(ClaimGrace, Timeout.InfiniteTimeSpan));
        SandboxCreated sandbox;
        try
        {
            sandbox = await pandora.Api.CreateAsync(
                new CreateSandboxRequest(Template: template, Egress: egress), null, claiming.Token);
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            throw new StoppedException(
                "interrupted before a sandbox was claimed; should the server have claimed one all the same, it ends by its idle timeout");
        }

        return cancellationToken.IsCancellationRequested
            ? throw new StoppedException($"interrupted before the command was started; {await EndStoppedAsync(pandora, sandbox.SandboxId)}")
            : sandbox;
    }

    private static async Task<string> EndStoppedAsync(PandoraClient pandora, string id)
    {
        using var limit = new CancellationTokenSource(EndLimit, TimeProvider.System);
        try
        {
            var receipt = await pandora.Api.DeleteWithReceiptAsync(id, limit.Token);
            return receipt.Left == 0 ? "its sandbox ended"
                : $"its sandbox ended, but {receipt.Left} of its resources remain on the host ('./pandora doctor --leaks' names them)";
        }
        catch (Exception e) when (e is SandboxNotFoundException or SandboxGoneException)
        {
            return "its sandbox has ended";
        }
        catch (Exception e) when (Failure.Of(e) is not null)
        {
            return DescribeNotEnded(id, e);
        }
    }

    /// <summary>The error for a command that has run and whose sandbox could not be ended. It has the command's exit code.</summary>
    internal static Failure NotEnded(string id, Exception exception, int exitCode) =>
        exception is SandboxNotFoundException or SandboxGoneException
            ? Failure.Of(exception)! with { ExitCode = exitCode }
            : new Failure(exitCode, new ApiProblem(Detail: DescribeNotEnded(id, exception), Code: "not_removed"));

    private static string DescribeNotEnded(string id, Exception exception)
    {
        var what = exception is OperationCanceledException
            ? $"its sandbox {id} was not removed within {EndLimit.TotalSeconds:0} s"
            : $"whether its sandbox {id} ended is not known ({exception.Message})";
        return $"{what}: './pandora rm {id}' ends it, as does its idle timeout";
    }

    private static void PrintReceipt(SandboxCreated sandbox, double? ranMs, Receipt receipt, bool asJson)
    {
        if (asJson)
        {
            Console.Error.WriteLine(JsonSerializer.Serialize(receipt, PandoraJson.Default.Receipt));
            return;
        }

        var ran = ranMs is null ? "timed out" : $"ran {Milliseconds(ranMs.Value)}";
        var claimed = $"claimed {Milliseconds(sandbox.AcquireMs)}{(sandbox.Warm ? "" : " (none was warm)")}";
        Console.Error.WriteLine(
            $"{claimed} · {ran} · torn down {Milliseconds(receipt.TeardownMs)} · {receipt.Left} remaining · isolation: "
                + $"{receipt.Isolation}");
    }

    private static string Milliseconds(double ms) =>
        string.Create(CultureInfo.InvariantCulture, $"{(ms < 10 ? Math.Round(ms, 1) : Math.Round(ms))} ms");
}
