using Pandora.Engine.Guests.Ports;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// A client's connection to a program in a sandbox. An open connection is no activity; bytes that move are. It breaks when the sandbox ends
/// or the server stops: the <see cref="IOException"/> then says so.
/// </summary>
public sealed class SandboxStream : GuestStream
{
    private readonly Sandbox _sandbox;
    private readonly GuestStream _connection;
    private readonly Sandbox.ConnectionPlace _place;
    private readonly AuditLine? _line;
    private readonly CancellationTokenRegistration _ending, _detaching;
    private Exception? _failure;
    private long _sent, _received;
    private int _isDisposed;

    internal SandboxStream(Sandbox sandbox, GuestStream connection, Sandbox.ConnectionPlace place, AuditLine? line)
    {
        (_sandbox, _connection, _place, _line) = (sandbox, connection, place, line);
        // What ends already closes the connection here.
        _ending = sandbox.Ending.UnsafeRegister(static c => ((GuestStream)c!).Dispose(), connection);
        _detaching = sandbox.Detaching.UnsafeRegister(static c => ((GuestStream)c!).Dispose(), connection);
    }

    /// <inheritdoc/>
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        try
        {
            var count = await _connection.ReadAsync(buffer, cancellationToken);
            if (count > 0)
            {
                Interlocked.Add(ref _received, count);
                _sandbox.Moved(PortDirection.FromGuest, count);
            }

            return count;
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            throw await ReasonOfAsync(e);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        try
        {
            await _connection.WriteAsync(buffer, cancellationToken);
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            throw await ReasonOfAsync(e);
        }

        if (!buffer.IsEmpty)
        {
            Interlocked.Add(ref _sent, buffer.Length);
            _sandbox.Moved(PortDirection.ToGuest, buffer.Length);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask EndWriteAsync(CancellationToken cancellationToken)
    {
        try
        {
            await _connection.EndWriteAsync(cancellationToken);
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            throw await ReasonOfAsync(e);
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing && Interlocked.Exchange(ref _isDisposed, 1) == 0)
        {
            _ending.Dispose();
            _detaching.Dispose();
            _connection.Dispose();
            _place.Dispose();
            if (_line is not null)
            {
                (_line.InputBytes, _line.Bytes) = (Interlocked.Read(ref _sent), Interlocked.Read(ref _received));
                _sandbox.RecordControl(_line, _failure);
            }
        }

        base.Dispose(disposing);
    }

    private async Task<IOException> ReasonOfAsync(Exception error)
    {
        // A program that breaks its connection breaks nothing else, so the sandbox is not asked why.
        if (_isDisposed == 0
            && (error.InnerException is PandoraException || _sandbox.Ending.IsCancellationRequested || _sandbox.IsDetaching))
        {
            var reason = await _sandbox.ConnectionReasonAsync(error);
            _failure = reason;
            return new IOException(reason.Message, reason);
        }

        return error as IOException ?? new IOException("the connection was closed", error);
    }
}
