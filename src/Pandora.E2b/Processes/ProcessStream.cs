using Pandora.E2b.Connect;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;

namespace Pandora.E2b.Processes;

/// <summary>The stream of a process: its start, its output as it comes, and its end. A client that goes away does not end the
/// process.</summary>
internal sealed class ProcessStream(ConnectCall call, SandboxProcess process, TimeProvider time, bool hasOffsets)
{
    // Clients expect pieces of at most these sizes.
    private const int MaxPiece = 32 * 1024, MaxTerminalPiece = 16 * 1024;

    /// <summary>Sends everything until the process's end.</summary>
    /// <exception cref="PandoraException">The sandbox has ended, the server stops, or the guest does not answer.</exception>
    public async Task SendAsync()
    {
        await call.BeginAsync();
        await SendAsync(new ProcessEvent(Start: new StartEvent(process.Pid)));
        using var left = CancellationTokenSource.CreateLinkedTokenSource(call.Context.RequestAborted);
        Task<ProcessOutput?>? reading = null;
        try
        {
            while (true)
            {
                reading = process.ReadAsync(left.Token).AsTask();
                while (!await call.HasComeAsync(reading, time))
                {
                    await SendAsync(new ProcessEvent { Keepalive = new Empty() });
                }

                if (await reading is not { } output)
                {
                    break;
                }

                await SendAsync(output);
            }
        }
        finally
        {
            // One caller at a time may read.
            await left.CancelAsync();
            await ((Task?)reading ?? Task.CompletedTask).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        await EndAsync(process.End!);
    }

    private async Task EndAsync(ProcessEnd end)
    {
        if (end.Stopped is not null)
        {
            await call.EndAsync(new ConnectException(
                ConnectCode.DeadlineExceeded, "the process ran into the timeout of the call, and was killed"));
            return;
        }

        var status = $"exit status {end.ExitCode}";
        await SendAsync(new ProcessEvent(End: new EndEvent(end.ExitCode, Exited: true, status, end.ExitCode == 0 ? null : status)));
        await call.EndAsync();
    }

    private async Task SendAsync(ProcessOutput output)
    {
        var (rest, offset) = (output.Bytes, output.Offset);
        var most = process.Facts.HasTerminal ? MaxTerminalPiece : MaxPiece;
        while (rest.Length > 0)
        {
            var piece = rest[..Math.Min(most, rest.Length)].ToArray();
            (rest, offset) = (rest[piece.Length..], offset + piece.Length);
            var data = (process.Facts.HasTerminal, output.Stream) switch
            {
                (true, _) => new DataEvent(Pty: piece),
                (_, OutputStream.Stdout) => new DataEvent(Stdout: piece),
                _ => new DataEvent(Stderr: piece),
            };
            await SendAsync(new ProcessEvent(Data: hasOffsets ? data with { Offset = offset } : data));
        }
    }

    private Task SendAsync(ProcessEvent happened) =>
        call.SendAsync(new ProcessEventMessage(happened), E2bJson.Default.ProcessEventMessage);
}
