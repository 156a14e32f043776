using System.IO.Pipelines;
using Renci.SshNet;
using Renci.SshNet.Common;

namespace Pandora.Engine.Guests.Ssh;

/// <summary>
/// The standard input and output of one program that runs over SSH, as a stream. SSH.NET blocks its callers, and takes what the guest sends
/// whether it is read or not: so two threads read, and a guest that sends more than <see cref="MostUnread"/> unread bytes is cut off.
/// </summary>
internal sealed class SshSession : Stream
{
    /// <summary>Most bytes that wait for the reader. An agent sends no more than its streams' windows.</summary>
    private const long MostUnread = 64L * 1024 * 1024;

    private readonly SshClient _client;
    private readonly SshCommand _command;
    private readonly Stream _input;
    private readonly Pipe _output = new(new PipeOptions(pauseWriterThreshold: 0));
    private readonly Stream _reader;
    private long _unread;
    private int _isDisposed;

    /// <summary>Runs a program.</summary>
    /// <param name="client">The connection, which is disposed of with this.</param>
    /// <param name="program">Text for the login shell.</param>
    public SshSession(SshClient client, string program)
    {
        _client = client;
        _command = client.CreateCommand(program);
        _ = _command.ExecuteAsync(CancellationToken.None);
        _input = _command.CreateInputStream();
        _reader = _output.Reader.AsStream();
        _ = OnThread(Read);
        _ = OnThread(() => Discard(_command.ExtendedOutputStream));
    }

    /// <inheritdoc/>
    public override bool CanRead => true;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override bool CanWrite => true;

    /// <inheritdoc/>
    public override long Length => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>Runs blocking work on a new thread.</summary>
    /// <exception cref="PandoraException">The host has no room for another thread.</exception>
    public static Task OnThread(Action work)
    {
        try
        {
            return Task.Factory.StartNew(
                work, CancellationToken.None, TaskCreationOptions.LongRunning | TaskCreationOptions.DenyChildAttach, TaskScheduler.Default);
        }
        catch (TaskSchedulerException e)
        {
            throw new PandoraException(
                PandoraError.HostFull, "the server's host has no room for another thread (memory, descriptors)", innerException: e);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        var count = await _reader.ReadAsync(buffer, cancellationToken);
        Interlocked.Add(ref _unread, -count);
        return count;
    }

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        try
        {
            // It waits for the guest's window.
            await Task.Run(
                () =>
                {
                    _input.Write(buffer.Span);
                    _input.Flush();
                }, cancellationToken);
        }
        catch (Exception e) when (e is SshException or ObjectDisposedException or InvalidOperationException
            or System.Net.Sockets.SocketException)
        {
            throw new IOException($"the SSH session has ended: {e.Message}", e);
        }
    }

    /// <inheritdoc/>
    public override void Flush()
    {
        // Each write is sent at once.
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (Interlocked.Exchange(ref _isDisposed, 1) == 0)
        {
            // In the background: an orderly close waits for a guest that may be dead or hostile.
            _ = Task.Run(() =>
            {
                // The socket first: a command that is disposed of waits for the guest.
                _client.Dispose();
                _command.Dispose();
            });
        }

        base.Dispose(disposing);
    }

    private void Read()
    {
        Exception? error = null;
        try
        {
            while (_command.OutputStream.Read(_output.Writer.GetSpan(32 * 1024)) is var count && count > 0)
            {
                _output.Writer.Advance(count);
                if (Interlocked.Add(ref _unread, count) > MostUnread)
                {
                    throw new IOException("the guest sends more over SSH than it may");
                }

                _output.Writer.FlushAsync().AsTask().GetAwaiter().GetResult();
            }
        }
        catch (Exception e) when (e is SshException or ObjectDisposedException or InvalidOperationException or IOException
            or System.Net.Sockets.SocketException)
        {
            error = new IOException($"the SSH session has ended: {e.Message}", e);
        }

        _output.Writer.Complete(error);
        if (error is not null)
        {
            Dispose();
        }
    }

    private static void Discard(Stream stream)
    {
        var buffer = new byte[4096];
        try
        {
            while (stream.Read(buffer) > 0)
            {
                // Drop the bytes.
            }
        }
        catch (Exception e) when (e is SshException or ObjectDisposedException or InvalidOperationException or IOException)
        {
            // The session has ended.
        }
    }
}
