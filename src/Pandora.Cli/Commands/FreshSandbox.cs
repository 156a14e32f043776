using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Pandora.Cli.Sessions;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary>A sandbox for one command: claimed before it, ended after it, with a receipt on standard error.</summary>
internal sealed class FreshSandbox
{
    private static readonly TimeSpan EndLimit = TimeSpan.FromSeconds(60);
    private readonly Option<string> _template = new("--template") { Description = "Template to start from" };
    private readonly Option<string> _egress = new("--egress") { Description = "internet or none" };
    private readonly SizeOptions _size = new();
    private readonly PortOptions _ports = new();
    private readonly Option<bool> _requireHardware = new("--require-hardware")
    {
        Description = "Refuse to run where the microVM would be emulated, which is no security boundary",
    };

    private readonly Option<bool> _quiet = new("--quiet", "-q")
    {
        Description = "Leave out the line with the result (with --json: the receipt, one JSON object on standard error)",
    };

    public void AddTo(Command command)
    {
        command.Options.Add(_template);
        command.Options.Add(_egress);
        _size.AddTo(command);
        _ports.AddTo(command);
        command.Options.Add(_requireHardware);
        command.Options.Add(_quiet);
    }

    /// <summary>Whether the user wants no more than the command's output.</summary>
    public bool IsQuiet(ParseResult result) => result.GetValue(_quiet);

    /// <summary>Claims a sandbox, uses it and ends it, however the use ends.</summary>
    /// <param name="result">The command line.</param>
    /// <param name="pandora">The client.</param>
    /// <param name="interruption">What the user stops it by.</param>
    /// <param name="use">Returns the exit code, and the milliseconds that the command ran; null where it timed out.</param>
    public async Task<int> UseAsync(
        ParseResult result, PandoraClient pandora, Interruption interruption, Func<string, Task<(int ExitCode, double? RanMs)>> use)
    {
        var request = new CreateSandboxRequest(Template: result.GetValue(_template), Egress: result.GetValue(_egress));
        request = _ports.AddTo(_size.AddTo(request, result), result);
        if (result.GetValue(_requireHardware))
        {
            await RequireHardwareAsync(pandora, interruption);
        }

        var sandbox = await ClaimAsync(pandora, request, interruption);
        // Ends the sandbox when an exception ends this command first.
        await using var handle = new Sandbox(pandora.Api, sandbox, keepAlive: false);
        int exitCode;
        double? ranMs = null;
        try
        {
            (exitCode, ranMs) = await use(sandbox.SandboxId);
        }
        catch (ExecTimeoutException timeout)
        {
            exitCode = Failure.Of(timeout)!.Print(result.GetValue(Shared.Json));
        }
        catch (Exception e) when (e is StoppedException or OperationCanceledException && interruption.Leaving.IsCancellationRequested)
        {
            handle.Detach();
            var words = e is StoppedException ? e.Message : "interrupted before the command was started";
            throw new StoppedException($"{words}; {await EndStoppedAsync(pandora, sandbox.SandboxId)}", interruption.ExitCode);
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
            return NotEnded(sandbox.SandboxId, e, exitCode).Print(result.GetValue(Shared.Json));
        }

        if (interruption.Sent is { } signal)
        {
            Console.Error.WriteLine($"pandora: the command ended after SIG{signal}, and its sandbox ended");
        }

        if (!result.GetValue(_quiet) && exitCode != ClosedOutputException.ExitCode)
        {
            PrintReceipt(sandbox, ranMs, receipt, result.GetValue(Shared.Json));
        }

        return exitCode;
    }

    // A server that does not say is not taken for one that has it.
    private static async Task RequireHardwareAsync(PandoraClient pandora, Interruption interruption)
    {
        Health health;
        try
        {
            health = await pandora.Api.GetHealthAsync(interruption.Leaving);
        }
        catch (OperationCanceledException) when (interruption.Leaving.IsCancellationRequested)
        {
            throw new StoppedException("interrupted before a sandbox was claimed", interruption.ExitCode);
        }

        if (health.HardwareIsolation == true)
        {
            return;
        }

        var why = health.HardwareIsolation == false
            ? $"the server's microVMs are emulated: {health.Isolation}"
            : $"whether hardware isolates the server's microVMs is not known: it is older than this program, and says '{health.Isolation}'";
        throw new HardwareRequiredException($"--require-hardware: {why}. No sandbox was claimed");
    }

    // The server may have created a sandbox whose id this program never receives. So a create under way is waited for, and its sandbox
    // ended.
    private static async Task<SandboxCreated> ClaimAsync(
        PandoraClient pandora, CreateSandboxRequest request, Interruption interruption)
    {
        SandboxCreated sandbox;
        try
        {
            sandbox = await interruption.FinishAsync(limit => pandora.Api.CreateAsync(request, null, limit));
        }
        catch (OperationCanceledException) when (interruption.Leaving.IsCancellationRequested)
        {
            throw new StoppedException(
                "interrupted before a sandbox was claimed; should the server have claimed one all the same, it ends by its idle timeout",
                interruption.ExitCode);
        }

        return interruption.Leaving.IsCancellationRequested
            ? throw new StoppedException(
                $"interrupted before the command was started; {await EndStoppedAsync(pandora, sandbox.SandboxId)}", interruption.ExitCode)
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
