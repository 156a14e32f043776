using System.Text;
using Pandora.Engine.Sandboxes;

namespace Pandora.Mcp.Processes;

/// <summary>Writes a text to a process's standard input, and ends it, while another reads its output.</summary>
internal sealed class StdinFeed : IAsyncDisposable
{
    // One message to the guest, so that what was taken is known when the feeding is stopped.
    private const int PieceBytes = 16 * 1024;
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _feeding;
    private long _taken;

    /// <summary>Begins to write.</summary>
    public StdinFeed(SandboxProcess process, string text) => _feeding = FeedAsync(process, Encoding.UTF8.GetBytes(text));

    /// <summary>Stops.</summary>
    /// <returns>How many bytes were taken, when that is not all; else null.</returns>
    public async Task<long?> StopAsync()
    {
        await _stop.CancelAsync();
        await _feeding.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return _feeding.IsCompletedSuccessfully ? null : _taken;
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        _stop.Dispose();
    }

    private async Task FeedAsync(SandboxProcess process, ReadOnlyMemory<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            var piece = bytes[..Math.Min(PieceBytes, bytes.Length)];
            await process.WriteInputAsync(piece, _stop.Token);
            _taken += piece.Length;
            bytes = bytes[piece.Length..];
        }

        await process.EndInputAsync(_stop.Token);
    }
}
