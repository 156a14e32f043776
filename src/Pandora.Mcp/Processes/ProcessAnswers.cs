using ModelContextProtocol.Protocol;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp.Processes;

/// <summary>Makes answers with output.</summary>
internal static class ProcessAnswers
{
    // The answer must come in time.
    private static readonly TimeSpan AskLimit = TimeSpan.FromSeconds(1);

    /// <summary>The answer about a process that was read.</summary>
    /// <param name="call">The call.</param>
    /// <param name="sandbox">The sandbox.</param>
    /// <param name="process">The process.</param>
    /// <param name="window">What was read.</param>
    /// <param name="reason">Why the reading stopped.</param>
    /// <param name="stdin">What became of its standard input; null when it has none of the call.</param>
    public static async Task<ToolAnswer<OutputAnswer>> OfAsync(
        ToolCall call, Sandbox sandbox, SandboxProcess process, OutputWindow window, string reason, StdinState? stdin = null)
    {
        var asked = process.End is null ? await AskAsync(call, sandbox, process.Id) : null;
        var end = process.End ?? asked?.End;
        if (reason is not ("ended" or "to_cursor"))
        {
            window.HoldBack();
        }

        var output = window.Text();
        if (window.Cut is not null)
        {
            // Without a reader, the sandbox keeps less. A process that runs may have to be killed, if the call fails now.
            await (process.End is null ? default : process.DisposeAsync());
            window.KeptFrom((await AskAsync(call, sandbox, process.Id))?.Facts.OutputBegin ?? 0);
            output = window.Text();
        }

        var handle = ProcessHandle.Of(sandbox, process.Id);
        var answer = new OutputAnswer
        {
            Sandbox = sandbox.Id,
            NewSandbox = call.NewSandbox is not null,
            Process = handle,
            State = end is not null ? "ended" : asked is not null ? "running" : "unknown",
            Reason = reason,
            ExitCode = end?.ExitCode,
            ElapsedMs = (long)call.Elapsed.TotalMilliseconds,
            Cursor = window.Next,
            Cut = window.Cut,
            LostBytes = window.Lost > 0 ? window.Lost : null,
            StdinBytes = end is null && stdin is { IsDone: false } ? stdin.Value.Taken : null,
            StdinLost = end is null && stdin is { IsLost: true } ? true : null,
            InvalidBytes = window.Invalid > 0 ? window.Invalid : null,
            OomLimit = end?.OomLimit,
            TimedOut = end?.Stopped is not null ? true : null,
            Outcome = end?.Stopped is { } stopped ? Label.Of(stopped.Outcome) : null,
            DiskLostData = process.HasLostData ? true : null,
            Guest = new OutputOfGuest(output),
        };
        return new(Summary(call, sandbox, answer), answer, output.Length == 0 ? null : new TextContentBlock { Text = output });
    }

    // Who stops before the end of the output does not hear how the process ended. Null when the sandbox does not say.
    private static async Task<ProcessInfo?> AskAsync(ToolCall call, Sandbox sandbox, string id)
    {
        using var limit = new CancellationTokenSource(AskLimit, call.Time);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(call.Stop, limit.Token);
        try
        {
            return await sandbox.GetProcessAsync(id, stop.Token);
        }
        catch (Exception e) when (
            e is PandoraException { Error: not (PandoraError.SandboxNotFound or PandoraError.SandboxGone) }
            || (e is OperationCanceledException && !call.Stop.IsCancellationRequested))
        {
            // What was read is not lost by it.
            return null;
        }
    }

    private static string Summary(ToolCall call, Sandbox sandbox, OutputAnswer answer)
    {
        List<string> parts =
        [
            answer.ExitCode is { } code ? $"exit code {code}"
                : answer.State == "running"
                ? $"still running as process {answer.Process}: process_read with cursor {answer.Cursor} waits for more"
                : $"whether process {answer.Process} has ended is not known: process_read with cursor {answer.Cursor} asks again",
        ];
        if (answer.ExitCode is not null && answer.Reason != "ended")
        {
            parts.Add($"process_read with cursor {answer.Cursor} reads on");
        }

        if (answer.StdinLost == true)
        {
            parts.Add("it does not read its stdin any more, and some of it is lost");
        }
        else if (answer.StdinBytes is { } taken)
        {
            parts.Add($"{taken} bytes of stdin were taken so far, and its input is still open: process_input writes the rest");
        }

        if (answer.Outcome is { } outcome)
        {
            parts.Add(
                outcome == Label.Of(CommandOutcome.Killed)
                    ? "killed at its timeout"
                    : "its time was over, and whether something of it still runs is not known");
        }

        if (answer.DiskLostData == true)
        {
            parts.Add("the sandbox's disk had I/O errors: data that it wrote may be lost");
        }

        if (answer.OomLimit is { } limit)
        {
            parts.Add($"the sandbox ran out of its memory of {limit / (1024 * 1024)} MiB");
        }

        if (answer.Cut is { } cut)
        {
            parts.Add($"{cut.Bytes} bytes in the middle of the output are not shown: process_read reads them with cursor {cut.Cursor} and "
                + $"to_cursor {cut.ToCursor} of process {answer.Process}");
        }

        if (answer.LostBytes is { } lost)
        {
            parts.Add($"{lost} bytes of older output are lost");
        }

        if (answer.InvalidBytes is { } invalid)
        {
            parts.Add($"{invalid} bytes were no UTF-8");
        }

        if (answer.Guest.Output.Length == 0)
        {
            parts.Add("no output");
        }

        parts.Add(call.Of(sandbox));
        return string.Join("; ", parts);
    }
}
