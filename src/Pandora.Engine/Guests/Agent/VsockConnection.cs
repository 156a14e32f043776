using Pandora.Agent.Protocol.Processes;
using Pandora.Vmm;

namespace Pandora.Engine.Guests.Agent;

/// <summary>A vsock connection for each stream: flow control is the kernel's.</summary>
/// <param name="machine">The virtual machine.</param>
/// <param name="secret">The guest's secret, with which each connection begins.</param>
/// <param name="time">Clock of the limit.</param>
internal sealed class VsockConnection(IVirtualMachine machine, ReadOnlyMemory<byte> secret, TimeProvider time) : AgentConnection
{
    // A guest that reads nothing must not keep a connection that the server has done with.
    private static readonly TimeSpan CloseLimit = TimeSpan.FromSeconds(5);
    private readonly TimeProvider _time = time;
    private int _open;
    private volatile bool _isDisposed;

    /// <inheritdoc/>
    public override async Task WaitAsync(CancellationToken cancellationToken)
    {
        // The connection succeeds once the agent listens.
        await using var stream = await machine.ConnectStreamsAsync(cancellationToken);
    }

    /// <inheritdoc/>
    public override async Task<AgentStream> OpenAsync(ReadOnlyMemory<byte> request, CancellationToken cancellationToken)
    {
        if (_isDisposed)
        {
            throw new IOException("the server has closed the connection to the guest");
        }

        Stream stream;
        try
        {
            stream = await machine.ConnectStreamsAsync(cancellationToken);
        }
        catch (VmmException e)
        {
            throw new IOException(e.Message, e);
        }

        Interlocked.Increment(ref _open);
        var pipe = new Pipe(this, stream);
        try
        {
            await stream.WriteAsync(secret, cancellationToken);
            await pipe.WriteAsync(request, cancellationToken);
            return pipe;
        }
        catch
        {
            pipe.Close(mustForget: false);
            throw;
        }
    }

    /// <inheritdoc/>
    public override Task QuiesceAsync(CancellationToken cancellationToken) => Volatile.Read(ref _open) == 0
        ? Task.CompletedTask
        : throw new InvalidOperationException($"{_open} streams to the guest are open");

    /// <inheritdoc/>
    public override ValueTask DisposeAsync()
    {
        _isDisposed = true;
        return ValueTask.CompletedTask;
    }

    private sealed class Pipe(VsockConnection connection, Stream stream) : AgentStream
    {
        private int _isClosed;

        public override bool IsSent => true;

        public override bool TryWithdraw() => false;

        public override ValueTask<int> ReadAsync(Memory<byte> bytes, CancellationToken cancellationToken) =>
            stream.ReadAsync(bytes, cancellationToken);

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken) =>
            stream.WriteAsync(bytes, cancellationToken);

        public override void Close(bool mustForget)
        {
            if (Interlocked.Exchange(ref _isClosed, 1) == 0)
            {
                Interlocked.Decrement(ref connection._open);
                _ = CloseAsync(mustForget);
            }
        }

        private async Task CloseAsync(bool mustForget)
        {
            try
            {
                if (mustForget)
                {
                    using var limit = new CancellationTokenSource(CloseLimit, connection._time);
                    await stream.WriteAsync(ProcessMessages.Encode(ProcessMessage.Forget, []), limit.Token);
                }
            }
            catch (Exception e) when (e is IOException or ObjectDisposedException or OperationCanceledException)
            {
                // The guest has closed it, or does not read.
            }

            await stream.DisposeAsync();
        }
    }
}
