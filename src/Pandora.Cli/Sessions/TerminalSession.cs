using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Sessions;

/// <summary>A command in a terminal, shown in this program's terminal: keys go there, its size follows, <c>~.</c> leaves.</summary>
internal sealed class TerminalSession(PandoraClient pandora, string sandboxId, Interruption interruption)
{
    // Exit code of what SIGHUP ended.
    private const int HungUp = 128 + 1;
    private static readonly TimeSpan CallLimit = TimeSpan.FromSeconds(5);

    /// <summary>Refuses a command line that asks for a terminal where there is none.</summary>
    /// <exception cref="UsageException">Standard input is not a terminal.</exception>
    public static void Check()
    {
        if (!RawTerminal.IsThere)
        {
            throw new UsageException("a terminal (-t, shell) needs one as standard input");
        }
    }

    /// <summary>Runs it. Leaving sends SIGHUP to the command, as a terminal that is closed does.</summary>
    /// <exception cref="StoppedException">A signal ended this program.</exception>
    public async Task<CommandEnd> RunAsync(CommandSpec command)
    {
        var request = command.ToTerminal(await RawTerminal.MeasureAsync());
        var state = await StartedProcess.StartAsync(pandora, sandboxId, request, interruption);
        var process = new SandboxProcess(pandora.Api, sandboxId, state.ProcessId);
        await using var terminal = new SandboxTerminal(pandora.Api, sandboxId, process, from: 0);
        using var left = new CancellationTokenSource();
        using var either = CancellationTokenSource.CreateLinkedTokenSource(interruption.Leaving, left.Token);
        try
        {
            using (RawTerminal.Enter(() => _ = ResizeAsync(process)))
            {
                var typing = TypeAsync(terminal, left, either.Token);
                await foreach (var output in terminal.ReadOutputAsync(either.Token))
                {
                    if (output.Kind != ProcessOutputKind.Dropped)
                    {
                        Descriptors.Write(1, output.Bytes.Span);
                    }
                }

                await left.CancelAsync();
                await typing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
        catch (Exception e)
        {
            await StartedProcess.TrySignalAsync(pandora, sandboxId, process.Id, "HUP");
            if (e is ClosedOutputException)
            {
                return new CommandEnd(ClosedOutputException.ExitCode, null);
            }

            if (e is not OperationCanceledException)
            {
                throw;
            }

            const string Message = "left the terminal; SIGHUP was sent to its command";
            if (interruption.Leaving.IsCancellationRequested)
            {
                throw new StoppedException(Message, interruption.ExitCode);
            }

            Console.Error.WriteLine($"\npandora: {Message}");
            return new CommandEnd(HungUp, null);
        }

        var result = terminal.Result!;
        var exit = new ExitedEvent(
            result.ExitCode, 0, TimedOut: result.IsTimedOut ? true : null, KillResult: result.KillResult,
            Oom: result.IsOutOfMemory ? true : null, MemoryLimitBytes: result.MemoryLimit);
        return new CommandEnd(CommandOutput.End(exit, isTruncated: false), exit);
    }

    private static async Task TypeAsync(SandboxTerminal terminal, CancellationTokenSource left, CancellationToken cancellationToken)
    {
        using var keys = new StandardInput();
        var (filter, buffer) = (new EscapeFilter(), new byte[4096]);
        try
        {
            var isLeaving = false;
            while (!isLeaving && await keys.ReadAsync(buffer, cancellationToken) is > 0 and var length)
            {
                var passed = filter.Take(buffer.AsSpan(0, length), out isLeaving);
                if (passed.Length > 0)
                {
                    await terminal.WriteInputAsync(passed, cancellationToken);
                }
            }
        }
        finally
        {
            // The user leaves, or this program's terminal is gone.
            await left.CancelAsync();
        }
    }

    private static async Task ResizeAsync(SandboxProcess process)
    {
        using var limit = new CancellationTokenSource(CallLimit, TimeProvider.System);
        try
        {
            var size = await RawTerminal.MeasureAsync();
            await process.ResizeAsync(new TerminalDimensions(size.Columns, size.Rows), limit.Token);
        }
        catch (Exception e) when (e is PandoraClientException or OperationCanceledException)
        {
            // The next change of size is another try.
        }
    }
}
