using Pandora.Client;
using Pandora.Contracts;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests.Chaos;

/// <summary>
/// Compares the server's answers with the facts: the guest's processes, the host's processes, and the faults of the last minute.
/// </summary>
internal sealed class Answers(ServerProcess server, Faults faults)
{
    // Longest times: that a started server recovers its microVMs, that an answer may still name a fault that is over, and that a VMM takes
    // to die.
    private static readonly TimeSpan Recovering = TimeSpan.FromSeconds(60),
        Cause = TimeSpan.FromSeconds(75),
        Dying = TimeSpan.FromSeconds(20);

    /// <summary>Whether an answer says that no part of a command ran.</summary>
    public static bool SaysNotStarted(PandoraApiException problem) =>
        problem.CommandState == CommandStates.NotStarted || problem.Message.Contains("nothing was run", StringComparison.Ordinal);

    /// <summary>Why a refusal is wrong, given the recent faults; null when it is right.</summary>
    public string? FindContradiction(PandoraApiException problem) => problem.Code switch
    {
        var code when code == ErrorCodes.NotProtected.Code && !faults.WasDone(Cause, "tables flushed") =>
            $"no fault removed the rules, and the answer was: {problem.Message}",
        var code when code == ErrorCodes.Recovering.Code && !faults.WasDone(Recovering, "server killed", "server restarted")
            && !faults.WasDone(Recovering, "(gave up without descriptors)") =>
            $"no server was started, and the answer was: {problem.Message}",
        var code when code == ErrorCodes.HostFull.Code && !faults.WasDone(Cause, "data disk full for a while", "disk filled by a guest",
            "descriptors run out for a while") => $"no fault filled the disk, and the answer was: {problem.Message}",
        _ => null,
    };

    /// <summary>
    /// Why a command's answer is wrong about its sandbox or its processes; null when it is right or can no longer be checked.
    /// </summary>
    public async Task<string?> FindContradictionAsync(string id, string token, PandoraApiException problem)
    {
        switch (problem.Code)
        {
            case var code when code == ErrorCodes.SandboxGone.Code || code == ErrorCodes.SandboxNotFound.Code:
                return await IsVmmRunningAsync(id) ? $"the answer says that {id} is gone, and its VMM runs: {problem.Message}" : null;
            case var code when code == ErrorCodes.ExecTimeout.Code && problem.CommandState == CommandStates.Killed:
                return await FindProcessesAsync(id, token) is { Length: > 0 } found
                    ? $"the answer says that {token} was killed in {id}, and it runs: {found}" : null;
            default:
                return null;
        }
    }

    // The server answers "gone" as soon as the end of a sandbox begins, so its VMM may run a little longer.
    private async Task<bool> IsVmmRunningAsync(string id)
    {
        var start = TimeProvider.System.GetTimestamp();
        while (RunsVmm(id))
        {
            if (TimeProvider.System.GetElapsedTime(start) > Dying && !server.HasExited
                && !faults.WasDone(Cause, "descriptors run out for a while", "server killed", "server restarted"))
            {
                return true;
            }

            if (TimeProvider.System.GetElapsedTime(start) > 2 * Dying)
            {
                // A fault delays the end. The audit after the run finds a VMM that remains.
                return false;
            }

            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System);
        }

        return false;
    }

    private bool RunsVmm(string id) =>
        Audit.Processes(server).Any(p => ProcessHandle.ReadEnvironment(int.Parse(p)).Contains($"PANDORA_MICROVM={id}"));

    // The processes whose command line contains the token; null when the guest no longer answers. The pattern has the first letter in
    // brackets, so that pgrep does not find itself.
    private async Task<string?> FindProcessesAsync(string id, string token)
    {
        try
        {
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(20), TimeProvider.System);
            return (
                await server
                    .Pandora.Connect(id)
                    .ExecAsync(
                        $"pgrep -fa '[{token[0]}]{token[1..]} '", new ExecOptions { Timeout = TimeSpan.FromSeconds(10) }, limit.Token)
            ).Stdout.Trim();
        }
        catch (Exception e) when (e is PandoraClientException or OperationCanceledException)
        {
            return null;
        }
    }
}
