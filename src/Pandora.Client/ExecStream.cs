using System.Runtime.CompilerServices;
using System.Text.Json;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>A command of <c>exec</c> whose output is read as it is written.</summary>
internal sealed class ExecStream(PandoraApi api, string sandboxId, ExecRequest request)
{
    private const int KilledBySignal9 = 128 + 9;
    private static readonly TimeSpan KillLimit = TimeSpan.FromSeconds(5);
    private ProcessStream? _stream;

    /// <summary>Id of the command's process; null until the server has said it.</summary>
    public string? ProcessId => _stream?.ProcessId;

    /// <summary>
    /// Runs the command and reads its events until <c>exited</c>, which is the last. When the connection breaks, the same process is
    /// read on: the server may have died and left the command running. Leaving the loop early ends the command.
    /// </summary>
    /// <exception cref="ExecInterruptedException">The command was killed because the connection broke, or its end is not known.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public async IAsyncEnumerable<ProcessEvent> ReadAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var response = await OpenAsync(cancellationToken).ConfigureAwait(false);
        if (!PandoraApi.IsEventStream(response))
        {
            foreach (var one in await ReadCollectedAsync(response, cancellationToken).ConfigureAwait(false))
            {
                yield return one;
            }

            yield break;
        }

        _stream = new ProcessStream(api, sandboxId, processId: null, from: 0, follow: true);
        var events = _stream.ReadAsync(response, cancellationToken).GetAsyncEnumerator(cancellationToken);
        var isOver = false;
        try
        {
            while (await MoveAsync(events).ConfigureAwait(false))
            {
                isOver = events.Current.Name == ProcessEvents.Exited;
                yield return events.Current;
            }

            isOver = true;
        }
        finally
        {
            await events.DisposeAsync().ConfigureAwait(false);
            if (!isOver && _stream.WasCut)
            {
                await KillAsync().ConfigureAwait(false);
            }
        }
    }

    private async Task<HttpResponseMessage> OpenAsync(CancellationToken cancellationToken)
    {
        try
        {
            return await api.OpenExecAsync(sandboxId, request, cancellationToken).ConfigureAwait(false);
        }
        catch (ExecTimeoutException e)
        {
            // Of an older server, which answers at the end.
            e.DecodeOutputs();
            throw;
        }
        catch (UnexpectedAnswerException e) when (IsBroken(e))
        {
            throw PandoraApi.NotAnswered(e);
        }
    }

    private static async Task<IReadOnlyList<ProcessEvent>> ReadCollectedAsync(
        HttpResponseMessage response, CancellationToken cancellationToken)
    {
        using (response)
        {
            ExecResponse answer;
            try
            {
                answer = await PandoraApi.ReadExecAsync(response, cancellationToken).ConfigureAwait(false);
            }
            catch (Exception e) when (e is IOException or HttpRequestException)
            {
                throw PandoraApi.NotAnswered(new UnexpectedAnswerException(e.Message, e));
            }

            var (stdout, stderr) = (PandoraApi.Decode(answer.Stdout), PandoraApi.Decode(answer.Stderr));
            var end = stdout.Length + stderr.Length;
            var exit = new ExitedEvent(
                answer.ExitCode, end, answer.ExecMs, Oom: answer.Oom, MemoryLimitBytes: answer.MemoryLimitBytes,
                DiskLostData: answer.DiskLostData);
            return
            [
                new(ProcessEvents.Stdout) { Bytes = stdout },
                new(ProcessEvents.Stderr) { Bytes = stderr, Offset = stdout.Length },
                new(ProcessEvents.Exited) { Exit = exit, Offset = end, IsTruncated = answer.Truncated == true },
            ];
        }
    }

    private async Task<bool> MoveAsync(IAsyncEnumerator<ProcessEvent> events)
    {
        try
        {
            var isThere = await events.MoveNextAsync().ConfigureAwait(false);
            // A server that lives kills a command whose client disconnected.
            return isThere && _stream!.WasCut && events.Current.Exit is { ExitCode: KilledBySignal9, TimedOut: not true, Oom: not true }
                ? throw Interrupted("the connection to the server broke, and the command was killed: a server ends a command whose client "
                    + "has gone")
                : isThere;
        }
        catch (PandoraApiException e) when (_stream!.WasCut && e.Code == ErrorCodes.ProcessNotFound.Code)
        {
            throw Interrupted("the connection to the server broke, and the command is not known any more: it may have run, in part or to "
                + "its end, and is not repeated", e);
        }
        catch (UnexpectedAnswerException e) when (_stream!.ProcessId is null && IsBroken(e))
        {
            throw PandoraApi.NotAnswered(e);
        }
        catch (PandoraClientException e) when (_stream!.ProcessId is not null && Reconnection.Helps(e))
        {
            throw Interrupted($"the connection to the server broke and could not be made again ({e.Message}): the command may run on, "
                + $"as process {ProcessId}", e);
        }
    }

    private async Task KillAsync()
    {
        using var limit = new CancellationTokenSource(KillLimit, api.Time);
        try
        {
            await api.SignalProcessAsync(sandboxId, ProcessId!, "KILL", limit.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (e is PandoraClientException or OperationCanceledException)
        {
            // It has ended, or the server ends it when nobody reads it.
        }
    }

    private static bool IsBroken(UnexpectedAnswerException e) => e.InnerException is not (null or JsonException);

    private static ExecInterruptedException Interrupted(string message, Exception? cause = null) =>
        new(message, new ApiProblem(Detail: message, Code: ErrorCodes.Interrupted.Code), retryAfter: null, cause);
}
