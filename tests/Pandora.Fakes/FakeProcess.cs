using Pandora.Engine;
using Pandora.Engine.Guests;

namespace Pandora.Fakes;

/// <summary>A process that has written something, and then ends.</summary>
/// <param name="outputs">What it has written.</param>
/// <param name="end">How it ends.</param>
internal sealed class FakeProcess(IReadOnlyList<(OutputStream Stream, byte[] Bytes)> outputs, ProcessEnd end) : IGuestProcess
{
    private readonly TaskCompletionSource _inputEnded = new();
    private readonly MemoryStream _input = new();
    private int _read;
    private long _offset;

    /// <summary>Number of bytes that were dropped before the first output.</summary>
    public long Dropped { get => _offset; init => _offset = value; }

    /// <summary>Whether it writes its input, once that has ended.</summary>
    public bool RepeatsInput { get; init; }

    /// <summary>The process ends once this is complete.</summary>
    public Task Until { get; init; } = Task.CompletedTask;

    /// <summary>What a kill reports.</summary>
    public CommandStop Stop { get; init; } = new(CommandOutcome.Killed, "a test stopped it");

    /// <summary>Makes a process of it that can be attached to.</summary>
    public void WriteTo(FakeRun run)
    {
        run.DropTo(Dropped);
        outputs.ToList().ForEach(o => run.Write(o.Stream, o.Bytes));
        if (!RepeatsInput)
        {
            Until.ContinueWith(
                _ => run.EndWith(end), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }
    }

    public string Id => "fake";

    public int Pid => 1;

    public ProcessFacts Facts => new(true, false, true, false, 0, 0, 0);

    public ProcessEnd? End { get; private set; }

    public async ValueTask<ProcessOutput?> ReadAsync(CancellationToken cancellationToken)
    {
        await Until.WaitAsync(cancellationToken);
        if (RepeatsInput && _read++ == 0)
        {
            await _inputEnded.Task.WaitAsync(cancellationToken);
            return new ProcessOutput(OutputStream.Stdout, 0, _input.ToArray());
        }

        if (_read >= outputs.Count)
        {
            End = end;
            return null;
        }

        var (stream, bytes) = outputs[_read++];
        _offset += bytes.Length;
        return new ProcessOutput(stream, _offset - bytes.Length, bytes);
    }

    public Task WriteInputAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken) =>
        _input.WriteAsync(bytes, cancellationToken).AsTask();

    public bool IsInputLost => false;

    public Task<bool> WaitForInputAsync(CancellationToken cancellationToken) => Task.FromResult(true);

    public Task<bool> EndInputAsync(CancellationToken cancellationToken)
    {
        _inputEnded.TrySetResult();
        return Task.FromResult(true);
    }

    public Task<bool> SignalAsync(int signal, CancellationToken cancellationToken) => Task.FromResult(true);

    public Task<bool> ResizeAsync(int columns, int rows, CancellationToken cancellationToken) => Task.FromResult(true);

    public Task<CommandStop> KillAsync() => Task.FromResult(Stop);

    public ValueTask DisposeAsync() => _input.DisposeAsync();
}
