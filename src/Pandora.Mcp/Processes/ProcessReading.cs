using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp.Processes;

/// <summary>Reads a process until an answer is due, and reports its last line meanwhile.</summary>
/// <param name="call">The call.</param>
/// <param name="process">The process.</param>
/// <param name="window">Where the output goes.</param>
/// <param name="until">When the answer is due.</param>
internal sealed class ProcessReading(ToolCall call, SandboxProcess process, OutputWindow window, ReadUntil until)
{
    // What a program writes at once comes in several pieces. One that goes on writing is not waited for longer.
    private static readonly TimeSpan Moment = TimeSpan.FromSeconds(0.5), ReportInterval = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LongestMoment = TimeSpan.FromSeconds(2);
    private readonly long _start = call.Time.GetTimestamp();
    private byte[] _carried = [];
    private bool _hasText, _hasOutput;
    private TimeSpan _firstOutput, _lastOutput, _nextReport;
    private string? _reported;

    /// <summary>Reads.</summary>
    /// <returns>Why it stopped: ended, text, silence, output, to_cursor, or time.</returns>
    /// <exception cref="Pandora.Engine.PandoraException">The sandbox has ended, or the guest does not answer.</exception>
    public async Task<string> ReadAsync()
    {
        using var left = CancellationTokenSource.CreateLinkedTokenSource(call.Stop);
        Task<ProcessOutput?>? reading = null;
        try
        {
            while (true)
            {
                // What is there already is read without a wait.
                if (Due() is { } reason)
                {
                    return reason;
                }

                reading ??= process.ReadAsync(left.Token).AsTask();
                if (!await CameAsync(reading))
                {
                    continue;
                }

                var output = await reading;
                reading = null;
                if (output is null)
                {
                    // The sandbox may have dropped the output of a process that has ended.
                    window.LoseTo(Math.Min(process.End?.Offset ?? 0, until.To ?? long.MaxValue));
                    return "ended";
                }

                Add(output.Value);
                await ReportAsync();
            }
        }
        finally
        {
            // One caller at a time may read.
            await left.CancelAsync();
            await ((Task?)reading ?? Task.CompletedTask).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (reading is { IsCompletedSuccessfully: true, Result: { } last })
            {
                Add(last);
            }
        }
    }

    private TimeSpan Now => call.Time.GetElapsedTime(_start);

    // The answer comes in time even if the guest says that there is more than it sends.
    private bool IsBehind => window.Next < process.Facts.OutputEnd && call.Elapsed.TotalSeconds < ReadUntil.LongestWait;

    private string? Due()
    {
        if (_hasText)
        {
            return "text";
        }

        if (until.To is { } to && window.Next >= to)
        {
            return "to_cursor";
        }

        if (IsBehind)
        {
            return null;
        }

        if (QuietAt() is { } quiet && Now >= quiet)
        {
            return until.Silence is null ? "output" : "silence";
        }

        return Now >= DeadlineOf() ? "time" : null;
    }

    // The end of a process that has ended comes after its output.
    private TimeSpan DeadlineOf()
    {
        var rest = until.Deadline - (call.Elapsed - Now);
        return rest > Moment / 2 ? rest : Moment / 2;
    }

    private TimeSpan? QuietAt() => until.Silence is { } silence ? _lastOutput + silence
        : until.StopsAtOutput && _hasOutput ? Earlier(_lastOutput + Moment, _firstOutput + LongestMoment)
        : null;

    private static TimeSpan Earlier(TimeSpan one, TimeSpan other) => one < other ? one : other;

    // Waits for output, for the time at which something is due, or for the next report.
    private async Task<bool> CameAsync(Task<ProcessOutput?> reading)
    {
        if (reading.IsCompleted)
        {
            return true;
        }

        var wake = IsBehind ? Now + ReportInterval : DeadlineOf();
        wake = QuietAt() is { } quiet ? Earlier(quiet, wake) : wake;
        wake = call.WantsProgress && _hasOutput && _nextReport > Now && _nextReport < wake ? _nextReport : wake;
        var wait = wake - Now;
        using var over = CancellationTokenSource.CreateLinkedTokenSource(call.Stop);
        var waiting = Task.Delay(wait > TimeSpan.Zero ? wait : TimeSpan.Zero, call.Time, over.Token);
        var first = await Task.WhenAny(reading, waiting);
        await over.CancelAsync();
        call.Stop.ThrowIfCancellationRequested();
        if (first != reading)
        {
            await ReportAsync();
        }

        return first == reading;
    }

    private void Add(ProcessOutput output)
    {
        var offset = output.Offset;
        var bytes = output.Bytes.Span;
        if (offset < window.Next)
        {
            // The guest sends whole pieces.
            var known = (int)Math.Min(bytes.Length, window.Next - offset);
            offset += known;
            bytes = bytes[known..];
        }

        if (until.To is { } to && offset + bytes.Length > to)
        {
            bytes = bytes[..(int)Math.Max(0, to - offset)];
        }

        if (bytes.Length == 0)
        {
            return;
        }

        // A text does not go on behind a gap.
        _carried = offset > window.Next ? [] : _carried;
        window.Add(offset, bytes);
        (_firstOutput, _lastOutput) = (_hasOutput ? _firstOutput : Now, Now);
        _hasOutput = window.HasText;
        if (until.Text is { } text && !_hasText)
        {
            byte[] searched = [.. _carried, .. bytes];
            _hasText = searched.AsSpan().IndexOf(text) >= 0;
            _carried = searched[Math.Max(0, searched.Length - text.Length + 1)..];
        }
    }

    private async Task ReportAsync()
    {
        if (!call.WantsProgress || Now < _nextReport || window.LastLine() is not { } line || line == _reported)
        {
            return;
        }

        (_reported, _nextReport) = (line, Now + ReportInterval);
        await call.ReportAsync($"guest: {line}");
    }
}
