namespace Pandora.Engine.Sandboxes;

/// <summary>
/// Lets one request at a time write to a process's input from an offset. A new request takes the turn of the last one, whose connection
/// broke: it waits until that one has given up, so that no byte is written twice.
/// </summary>
internal sealed class InputTurns
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, Turn> _turns = [];

    /// <summary>Takes the turn for a process. Disposing gives it back.</summary>
    public async Task<Turn> TakeAsync(string process, CancellationToken cancellationToken)
    {
        var turn = new Turn(this, process);
        while (true)
        {
            Turn? last;
            lock (_lock)
            {
                if (_turns.TryAdd(process, turn))
                {
                    return turn;
                }

                last = _turns[process];
            }

            await last.EndAsync(cancellationToken);
        }
    }

    /// <summary>The turn of one request.</summary>
    public sealed class Turn(InputTurns turns, string process) : IDisposable
    {
        private readonly CancellationTokenSource _taken = new();
        private readonly TaskCompletionSource _over = new(TaskCreationOptions.RunContinuationsAsynchronously);

        /// <summary>Cancelled when another request takes the turn.</summary>
        public CancellationToken Taken => _taken.Token;

        /// <summary>Asks the request to give up, and waits until it has.</summary>
        public async Task EndAsync(CancellationToken cancellationToken)
        {
            if (!_over.Task.IsCompleted)
            {
                await _taken.CancelAsync();
            }

            await _over.Task.WaitAsync(cancellationToken);
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            lock (turns._lock)
            {
                turns._turns.Remove(process);
            }

            // The token's source has no timer and no wait handle; another request may cancel it even now.
            _over.TrySetResult();
        }
    }
}
