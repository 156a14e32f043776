using System.Diagnostics.CodeAnalysis;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>
/// Writes to a process's input. Each request says at which offset its bytes begin, so it is sent again after a broken connection, and the
/// server leaves out what it has.
/// </summary>
[SuppressMessage("Reliability", "CA1001", Justification = "A semaphore whose handle is not asked for holds nothing")]
internal sealed class ProcessInput(PandoraApi api, string sandboxId, string processId)
{
    // What one request carries, and what is kept for sending it again.
    private const int MaxPiece = 4 * 1024 * 1024, ReadSize = 256 * 1024;
    private readonly SemaphoreSlim _turn = new(1);

    /// <summary>Writes bytes, and returns when the process's pipe has taken them.</summary>
    public async Task WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            var offset = await FindOffsetAsync(cancellationToken).ConfigureAwait(false);
            for (var sent = 0; sent < bytes.Length; sent += MaxPiece)
            {
                var piece = bytes[sent..Math.Min(bytes.Length, sent + MaxPiece)];
                await SendAsync(offset + sent, piece, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <summary>Writes a stream to its end as it comes: while one request is under way, the next one is filled.</summary>
    public async Task WriteAsync(Stream source, CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            var offset = await FindOffsetAsync(cancellationToken).ConfigureAwait(false);
            await PumpAsync(source, offset, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _turn.Release();
        }
    }

    private async Task PumpAsync(Stream source, long offset, CancellationToken cancellationToken)
    {
        var (filling, other, read) = (new byte[MaxPiece], new byte[MaxPiece], new byte[ReadSize]);
        var (filled, isEnd) = (0, false);
        var sending = Task.CompletedTask;
        var reading = source.ReadAsync(read, cancellationToken).AsTask();
        while (true)
        {
            if (sending.IsCompleted)
            {
                await sending.ConfigureAwait(false);
                if (filled > 0)
                {
                    sending = SendAsync(offset, filling.AsMemory(0, filled), cancellationToken);
                    (filling, other, offset, filled) = (other, filling, offset + filled, 0);
                }
                else if (isEnd)
                {
                    return;
                }
            }

            if (isEnd || filled + ReadSize > MaxPiece)
            {
                await sending.ConfigureAwait(false);
                continue;
            }

            await Task.WhenAny(sending.IsCompleted ? [reading] : [reading, sending]).ConfigureAwait(false);
            if (reading.IsCompleted)
            {
                var length = await reading.ConfigureAwait(false);
                read.AsSpan(0, length).CopyTo(filling.AsSpan(filled));
                filled += length;
                isEnd = length == 0;
                reading = isEnd ? reading : source.ReadAsync(read, cancellationToken).AsTask();
            }
        }
    }

    private async Task<long> FindOffsetAsync(CancellationToken cancellationToken) =>
        (await GetAsync(new Reconnection(api), cancellationToken).ConfigureAwait(false)).InputOffset;

    private Task<ProcessState> GetAsync(Reconnection reconnection, CancellationToken cancellationToken) =>
        reconnection.RepeatAsync(() => api.GetProcessAsync(sandboxId, processId, cancellationToken), cancellationToken);

    private async Task SendAsync(long offset, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        var reconnection = new Reconnection(api);
        while (true)
        {
            PandoraClientException cause;
            try
            {
                await api.WriteProcessInputAsync(sandboxId, processId, offset, bytes, cancellationToken).ConfigureAwait(false);
                return;
            }
            catch (PandoraClientException e)
            {
                cause = e;
            }

            await reconnection.WaitAsync(cause, cancellationToken).ConfigureAwait(false);
            var state = await GetAsync(reconnection, cancellationToken).ConfigureAwait(false);
            if (state.ExitCode is not null)
            {
                const string Message = "the process has ended and takes no input any more";
                var problem = new ApiProblem(Status: ErrorCodes.ProcessState.Status, Detail: Message, Code: ErrorCodes.ProcessState.Code);
                throw new PandoraApiException(Message, problem, innerException: cause);
            }

            var accepted = (int)Math.Clamp(state.InputOffset - offset, 0, bytes.Length);
            (offset, bytes) = (offset + accepted, bytes[accepted..]);
            if (accepted > 0)
            {
                reconnection.Worked();
            }
        }
    }
}
