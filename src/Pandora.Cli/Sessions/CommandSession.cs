using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Sessions;

/// <summary>How a command ended.</summary>
/// <param name="ExitCode">Exit code of this program.</param>
/// <param name="Exit">What the server said of it; null when its output was closed.</param>
internal sealed record CommandEnd(int ExitCode, ExitedEvent? Exit);

/// <summary>Runs a command, and writes what it writes to this program's outputs at once, as bytes.</summary>
internal sealed class CommandSession(PandoraClient pandora, string sandboxId, Interruption interruption) : IDisposable
{
    private static readonly TimeSpan EndLimit = TimeSpan.FromSeconds(2);
    private readonly CancellationTokenSource _closed = new();
    private ITimer? _closing;
    private bool _isClosed;

    /// <summary>Runs a command that ends with this program, however that ends.</summary>
    /// <exception cref="StoppedException">The user stopped it.</exception>
    public async Task<CommandEnd> ExecAsync(ExecRequest request)
    {
        var stream = new ExecStream(pandora.Api, sandboxId, request);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(interruption.Leaving, _closed.Token);
        try
        {
            return await ShowAsync(stream.ReadAsync(either.Token), id => interruption.Attach(SignalOf(id)), () => stream.ProcessId);
        }
        catch (OperationCanceledException) when (_isClosed)
        {
            return new CommandEnd(ClosedOutputException.ExitCode, null);
        }
        catch (OperationCanceledException) when (interruption.Leaving.IsCancellationRequested)
        {
            throw new StoppedException(
                interruption.Sent is null ? StoppedException.CommandWords : NotSeenToEnd(interruption.Sent), interruption.ExitCode);
        }
    }

    /// <summary>Runs a command whose input is this program's, as it comes.</summary>
    /// <exception cref="StoppedException">The user stopped it.</exception>
    public async Task<CommandEnd> FeedAsync(StartProcessRequest request, Stream input)
    {
        var state = await StartedProcess.StartAsync(pandora, sandboxId, request, interruption);
        var id = state.ProcessId;
        interruption.Attach(SignalOf(id));
        using var over = new CancellationTokenSource();
        using var either = CancellationTokenSource.CreateLinkedTokenSource(interruption.Leaving, _closed.Token);
        // An input that fails ends the reading of the output.
        var feeding = PumpAsync(new SandboxProcess(pandora.Api, sandboxId, id), input, either, over.Token);
        var stream = new ProcessStream(pandora.Api, sandboxId, id, from: 0, follow: true);
        try
        {
            return await ShowAsync(stream.ReadAsync(first: null, either.Token), _ => { }, () => id);
        }
        catch (Exception e)
        {
            await StartedProcess.TrySignalAsync(pandora, sandboxId, id, "KILL");
            if (e is not OperationCanceledException)
            {
                throw;
            }

            if (_isClosed)
            {
                return new CommandEnd(ClosedOutputException.ExitCode, null);
            }

            if (interruption.Leaving.IsCancellationRequested)
            {
                throw new StoppedException(NotSeenToEnd(interruption.Sent ?? "KILL"), interruption.ExitCode);
            }

            await feeding;
            throw;
        }
        finally
        {
            await over.CancelAsync();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _closing?.Dispose();
        _closed.Dispose();
    }

    private async Task<CommandEnd> ShowAsync(
        IAsyncEnumerable<ProcessEvent> events, Action<string> started, Func<string?> id)
    {
        await foreach (var next in events)
        {
            if (next.Name == ProcessEvents.Started)
            {
                started(next.ProcessId!);
            }
            else if (next.Exit is { } exit)
            {
                return new CommandEnd(_isClosed ? ClosedOutputException.ExitCode : CommandOutput.End(exit, next.IsTruncated), exit);
            }
            else if (next.Output is { } output && !_isClosed)
            {
                try
                {
                    CommandOutput.Write(output);
                }
                catch (ClosedOutputException)
                {
                    // As the kernel does to a local program. A command that goes on all the same is killed.
                    _isClosed = true;
                    _closing = TimeProvider.System.CreateTimer(_ => _closed.Cancel(), null, EndLimit, Timeout.InfiniteTimeSpan);
                    await StartedProcess.TrySignalAsync(pandora, sandboxId, id(), "PIPE");
                }
            }
        }

        throw new InvalidOperationException("a stream of events ended without its last one");
    }

    private static async Task PumpAsync(
        SandboxProcess process, Stream input, CancellationTokenSource failed, CancellationToken cancellationToken)
    {
        try
        {
            await process.WriteInputAsync(input, cancellationToken);
            await process.CompleteInputAsync(cancellationToken);
        }
        catch (PandoraApiException e) when (e.Code == ErrorCodes.ProcessState.Code)
        {
            // The command has ended, or reads its input no further.
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            await failed.CancelAsync();
            throw;
        }
    }

    private Func<string, CancellationToken, Task> SignalOf(string id) =>
        (signal, cancellationToken) => pandora.Api.SignalProcessAsync(sandboxId, id, signal, cancellationToken);

    private static string NotSeenToEnd(string signal) =>
        $"interrupted; SIG{signal} was sent to the command, and it was not seen to end";
}
