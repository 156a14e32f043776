using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Sessions;

/// <summary>The start of a process that must not live on unnoticed.</summary>
internal static class StartedProcess
{
    private static readonly TimeSpan KillLimit = TimeSpan.FromSeconds(5);

    /// <summary>Starts it. One whose start the user stopped is killed.</summary>
    /// <exception cref="StoppedException">The user stopped it.</exception>
    public static async Task<ProcessState> StartAsync(
        PandoraClient pandora, string sandboxId, StartProcessRequest request, Interruption interruption)
    {
        ProcessState state;
        try
        {
            state = await interruption.FinishAsync(limit => pandora.Api.StartProcessAsync(sandboxId, request, limit));
        }
        catch (OperationCanceledException) when (interruption.Leaving.IsCancellationRequested)
        {
            throw new StoppedException(
                $"interrupted, and the server did not answer whether it started the command: './pandora ps {sandboxId}' tells",
                interruption.ExitCode);
        }

        if (!interruption.Leaving.IsCancellationRequested)
        {
            return state;
        }

        var isSent = await TrySignalAsync(pandora, sandboxId, state.ProcessId, "KILL");
        throw new StoppedException(
            isSent
                ? "interrupted; SIGKILL was sent to the command"
                : $"interrupted; SIGKILL could not be sent to the command: './pandora ps {sandboxId}' tells of it",
            interruption.ExitCode);
    }

    /// <summary>Sends a signal; false when the process has ended or the server cannot be reached.</summary>
    public static async Task<bool> TrySignalAsync(PandoraClient pandora, string sandboxId, string? id, string signal)
    {
        if (id is null)
        {
            return false;
        }

        using var limit = new CancellationTokenSource(KillLimit, TimeProvider.System);
        try
        {
            await pandora.Api.SignalProcessAsync(sandboxId, id, signal, limit.Token);
            return true;
        }
        catch (Exception e) when (e is PandoraClientException or OperationCanceledException)
        {
            return false;
        }
    }
}
