using Pandora.Agent.Protocol.Processes;

namespace Pandora.Engine.Guests.Agent;

// The input of a process, of which no more is on its way than the agent takes.
internal sealed partial class AgentProcess
{
    private long _inputSent, _inputTaken;
    private TaskCompletionSource _inputChanged = NewSignal();
    private volatile bool _isInputLost, _isInputDropped;

    /// <inheritdoc/>
    public async Task WriteInputAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        // Input that the process does not read must not fill the stream: a signal or a kill would not arrive.
        const int AtOnce = ProcessMessages.InputWindow / 4;
        while (!bytes.IsEmpty)
        {
            // Before the room is computed: the reader changes it first and signals then.
            var changed = Volatile.Read(ref _inputChanged).Task;
            var room = ProcessMessages.InputWindow - (_inputSent - Volatile.Read(ref _inputTaken));
            if (_isOver || _isInputLost)
            {
                // Nothing will be read. If the guest is lost, the reader's exception says so.
                _isInputDropped = true;
                return;
            }

            if (room < Math.Min(AtOnce, bytes.Length))
            {
                using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _givenUp.Token);
                await changed.WaitAsync(stop.Token);
                continue;
            }

            var piece = bytes[..Math.Min(AtOnce, bytes.Length)];
            await SendAsync(ProcessMessage.Input, piece, cancellationToken);
            _inputSent += piece.Length;
            bytes = bytes[piece.Length..];
        }
    }

    /// <inheritdoc/>
    public bool IsInputLost => _isInputLost;

    /// <inheritdoc/>
    public async Task<bool> WaitForInputAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            var changed = Volatile.Read(ref _inputChanged).Task;
            if (!_isInputLost && !_isInputDropped && Volatile.Read(ref _inputTaken) >= _inputSent)
            {
                return true;
            }

            if (_isOver || _isInputLost)
            {
                return false;
            }

            using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _givenUp.Token);
            await changed.WaitAsync(stop.Token);
        }
    }

    /// <inheritdoc/>
    public Task<bool> EndInputAsync(CancellationToken cancellationToken) =>
        AskAsync(ProcessMessage.EndInput, ReadOnlyMemory<byte>.Empty, cancellationToken);

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private void SignalInput() => Interlocked.Exchange(ref _inputChanged, NewSignal()).TrySetResult();
}
