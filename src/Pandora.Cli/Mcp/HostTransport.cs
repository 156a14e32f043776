using System.Threading.Channels;
using ModelContextProtocol.Protocol;
using ModelContextProtocol.Server;

namespace Pandora.Cli.Mcp;

/// <summary>
/// The connection to the host that started the bridge. It also tells when the host has left: its messages end, nothing reads the answers,
/// or a signal came. The library alone would wait for the calls that run, and would not notice a closed output.
/// </summary>
internal sealed class HostTransport : ITransport
{
    // What was asked last may still be done, though the library sends no answer after the end of the input. Hosts kill a program that does
    // not end within two seconds after it.
    private static readonly TimeSpan LastCalls = TimeSpan.FromSeconds(1);
    private readonly CancellationTokenSource _left;
    private readonly StreamServerTransport _inner;
    private readonly Task _watching;

    /// <summary>Begins to read.</summary>
    /// <param name="input">The host's messages.</param>
    /// <param name="output">What the host reads.</param>
    /// <param name="signal">Is cancelled when a signal ends the bridge.</param>
    public HostTransport(Stream input, Stream output, CancellationToken signal)
    {
        _left = CancellationTokenSource.CreateLinkedTokenSource(signal);
        _inner = new StreamServerTransport(input, new HostOutput(output, _left), "pandora");
        _watching = WatchAsync();
    }

    /// <summary>Is cancelled when the host has left.</summary>
    public CancellationToken Left => _left.Token;

    /// <inheritdoc/>
    public string? SessionId => _inner.SessionId;

    /// <inheritdoc/>
    public ChannelReader<JsonRpcMessage> MessageReader => _inner.MessageReader;

    /// <inheritdoc/>
    public Task SendMessageAsync(JsonRpcMessage message, CancellationToken cancellationToken = default) =>
        _inner.SendMessageAsync(message, cancellationToken);

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _left.CancelAsync();
        await _inner.DisposeAsync();
        // The messages have ended when none is left to be read.
        while (MessageReader.TryRead(out _))
        {
        }

        await _watching;
        _left.Dispose();
    }

    private async Task WatchAsync()
    {
        await MessageReader.Completion.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await Task.Delay(LastCalls, TimeProvider.System, Left).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _left.CancelAsync();
    }

    // A write is done whole whatever its token says: the library writes a message and its line end by two calls, and a call that is
    // cancelled between them would spoil the next message. Only a host that has left is not waited for.
    private sealed class HostOutput(Stream inner, CancellationTokenSource left) : Stream
    {
        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
            new(DoAsync(inner.WriteAsync(buffer, CancellationToken.None).AsTask()));

        public override Task FlushAsync(CancellationToken cancellationToken) => DoAsync(inner.FlushAsync(CancellationToken.None));

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override void Flush() => inner.Flush();

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        private async Task DoAsync(Task writing)
        {
            try
            {
                await writing.WaitAsync(left.Token);
            }
            catch (IOException)
            {
                await left.CancelAsync();
                throw;
            }
        }
    }
}
