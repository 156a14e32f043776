using System.Text;
using Pandora.Engine.Sandboxes;

namespace Pandora.Mcp.Processes;

/// <summary>What became of a text for standard input.</summary>
/// <param name="Taken">Bytes that were taken.</param>
/// <param name="IsDone">Whether all of it was taken and the input has ended.</param>
/// <param name="IsLost">Whether the process does not read any more, so that some of what was taken is lost.</param>
internal readonly record struct StdinState(long Taken, bool IsDone, bool IsLost);

/// <summary>Writes a text to a process's standard input, and ends it, while another reads its output.</summary>
internal sealed class StdinFeed : IAsyncDisposable
{
    // One message to the guest, so that what was taken is known when the feeding is stopped.
    private const int PieceBytes = 16 * 1024;
    private readonly CancellationTokenSource _stop = new();
    private readonly SandboxProcess _process;
    private readonly Task _feeding;
    private long _taken;

    /// <summary>Begins to write.</summary>
    public StdinFeed(SandboxProcess process, string text)
    {
        _process = process;
        _feeding = FeedAsync(Encoding.UTF8.GetBytes(text));
    }

    /// <summary>Stops.</summary>
    public async Task<StdinState> StopAsync()
    {
        await _stop.CancelAsync();
        await _feeding.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return new(_taken, _feeding.IsCompletedSuccessfully, _process.IsInputLost);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        _stop.Dispose();
    }

    private async Task FeedAsync(ReadOnlyMemory<byte> bytes)
    {
        while (!bytes.IsEmpty && !_process.IsInputLost)
        {
            var piece = bytes[..Math.Min(PieceBytes, bytes.Length)];
            await _process.WriteInputAsync(piece, _stop.Token);
            _taken += piece.Length;
            bytes = bytes[piece.Length..];
        }

        await _process.EndInputAsync(_stop.Token);
    }
}
