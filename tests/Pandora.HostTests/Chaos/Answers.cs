using Pandora.Client;
using Pandora.Contracts;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests.Chaos;

/// <summary>
/// Holds what the server answers against what is the case: in the guest, among the host's processes, and with what was just done to it.
/// </summary>
internal sealed class Answers(ServerProcess server, Faults faults)
{
    // A server that has just started may decide for so long, an undone cause may be noticed so late, and a VMM may take so long to die.
    private static readonly TimeSpan Deciding = TimeSpan.FromSeconds(60), Cause = TimeSpan.FromSeconds(75), Dying =
        TimeSpan.FromSeconds(20);

    /// <summary>Whether an answer says that nothing of a command was run.</summary>
    public static bool SaysNotStarted(PandoraApiException problem) =>
        problem.CommandState == CommandStates.NotStarted || problem.Message.Contains("nothing was run", StringComparison.Ordinal);

    /// <summary>What is wrong with a refusal, by what was done to the server lately; null when nothing is.</summary>
    public string? FindLie(PandoraApiException problem) => problem.Code switch
    {
        var code when code == ErrorCodes.NotProtected.Code && !faults.WasDone(Cause, "tables flushed") =>
            $"nothing took the rules away, and the answer was: {problem.Message}",
        var code when code == ErrorCodes.Recovering.Code && !faults.WasDone(Deciding, "server killed", "server restarted")
            && !faults.WasDone(Deciding, "(gave up without descriptors)") =>
            $"no server was started, and the answer was: {problem.Message}",
        var code when code == ErrorCodes.HostFull.Code && !faults.WasDone(Cause, "data disk full for a while", "disk filled by a guest",
            "descriptors run out for a while") => $"nothing was full, and the answer was: {problem.Message}",
        _ => null,
    };

    /// <summary>What is wrong with what a command's answer says of its sandbox and of itself; null when nothing is, or when that can no
    /// longer be seen.</summary>
    public async Task<string?> FindLieAsync(string id, string token, PandoraApiException problem)
    {
        switch (problem.Code)
        {
            case var code when code == ErrorCodes.SandboxGone.Code || code == ErrorCodes.SandboxNotFound.Code:
                return await IsStillThereAsync(id) ? $"{id} is said to be gone, and its VMM runs: {problem.Message}" : null;
            case var code when code == ErrorCodes.ExecTimeout.Code && problem.CommandState == CommandStates.Killed:
                return await FindAsync(id, token) is { Length: > 0 } found
                    ? $"{token} is said to have been killed in {id}, and runs: {found}" : null;
            default:
                return null;
        }
    }

    // The answer says that it is gone as soon as it is being ended.
    private async Task<bool> IsStillThereAsync(string id)
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
                // Whatever was done meanwhile, the audit at the end sees what is left.
                return false;
            }

            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System);
        }

        return false;
    }

    private bool RunsVmm(string id) =>
        Audit.Processes(server).Any(p => ProcessHandle.ReadEnvironment(int.Parse(p)).Contains($"PANDORA_MICROVM={id}"));

    // Null when the guest cannot be asked any more. The command that asks has the token in brackets, and so does not find itself.
    private async Task<string?> FindAsync(string id, string token)
    {
        try
        {
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(20), TimeProvider.System);
            return (await server.Pandora.Connect(id).ExecAsync($"pgrep -fa '[{token[0]}]{token[1..]} '", new ExecOptions { Timeout = TimeSpan.FromSeconds(10) }, limit.Token))
                .Stdout.Trim();
        }
        catch (Exception e) when (
            e is PandoraApiException or ServerUnreachableException or HttpRequestException or IOException or OperationCanceledException)
        {
            return null;
        }
    }
}
