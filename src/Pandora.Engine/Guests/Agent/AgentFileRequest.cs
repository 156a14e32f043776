using Pandora.Agent.Protocol.Files;
using Pandora.Agent.Protocol.Processes;
using Pandora.Engine.Guests.Files;

namespace Pandora.Engine.Guests.Agent;

/// <summary>
/// The server's view of a request for files. It reads messages when its user does, so that a slow client makes the agent wait. (1) When
/// the agent is silent for <see cref="Silence"/> while the server waits for it, the server asks the agent for a sign of life.
/// (2) Without one, or after <see cref="MostSilence"/>, the guest counts as unreachable.
/// </summary>
/// <param name="spec">What is asked for.</param>
/// <param name="stream">The stream of the request.</param>
/// <param name="isAlive">Asks the agent for a sign of life.</param>
/// <param name="time">Clock of the limits.</param>
internal sealed partial class AgentFileRequest(
    FileSpec spec, AgentStream stream, Func<CancellationToken, Task<bool>> isAlive, TimeProvider time) : IGuestFiles
{
    /// <summary>Silence after which the agent is asked for a sign of life.</summary>
    public static readonly TimeSpan Silence = TimeSpan.FromSeconds(30);

    /// <summary>Longest silence about a request of an agent that lives.</summary>
    public static readonly TimeSpan MostSilence = TimeSpan.FromMinutes(10);

    private readonly MessageParser _parser = new(FileMessages.MaxBody);
    private readonly CancellationTokenSource _closing = new();
    private byte[]? _buffer;
    private long _waitingSince = time.GetTimestamp();
    private int _files;
    private long _bytes;
    private bool _isOver;

    // While the client sends, or a directory is watched, the agent has nothing to say.
    private volatile bool _maySayNothing = spec.HasBody;

    /// <inheritdoc/>
    public FileOutcome? Outcome { get; private set; }

    /// <inheritdoc/>
    public async ValueTask<FilePiece?> ReadAsync(CancellationToken cancellationToken)
    {
        if (_isOver)
        {
            return Outcome is null ? throw Broken("the request has failed before") : null;
        }

        try
        {
            ProcessMessage kind;
            ReadOnlyMemory<byte> body;
            while (!_parser.TryRead(out kind, out body))
            {
                var count = await ReceiveAsync(cancellationToken);
                if (count == 0)
                {
                    throw new IOException("the guest's agent closed the stream");
                }

                _parser.Received(count);
            }

            return Take(kind, body);
        }
        catch (Exception e) when (e is IOException or FormatException)
        {
            _isOver = true;
            throw Broken(e is FormatException ? $"it sent what cannot be: {e.Message}" : e.Message, e);
        }
        catch (PandoraException)
        {
            _isOver = true;
            throw;
        }
    }

    /// <inheritdoc/>
    public async ValueTask WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        _buffer ??= new byte[ProcessMessages.HeaderSize + FileMessages.MaxBody];
        while (!bytes.IsEmpty)
        {
            var piece = bytes[..Math.Min(bytes.Length, FileMessages.MaxBody)];
            ProcessMessages.WriteHeader(_buffer, (ProcessMessage)FileMessage.Write, piece.Length);
            piece.CopyTo(_buffer.AsMemory(ProcessMessages.HeaderSize));
            await SendAsync(_buffer.AsMemory(0, ProcessMessages.HeaderSize + piece.Length), cancellationToken);
            bytes = bytes[piece.Length..];
        }
    }

    /// <inheritdoc/>
    public async ValueTask EndWriteAsync(CancellationToken cancellationToken)
    {
        Volatile.Write(ref _waitingSince, time.GetTimestamp());
        // Before it is sent: the answer may come at once.
        _maySayNothing = false;
        await SendAsync(FileMessages.Encode(FileMessage.EndWrite, []), cancellationToken);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _closing.CancelAsync();
        stream.Close(mustForget: false);
    }

    private async ValueTask<int> ReceiveAsync(CancellationToken cancellationToken)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _closing.Token);
        var reading = stream.ReadAsync(_parser.Room, stop.Token);
        if (reading.IsCompleted)
        {
            return await reading;
        }

        Volatile.Write(ref _waitingSince, time.GetTimestamp());
        var task = reading.AsTask();
        await WaitAsync(task, () => _maySayNothing, stop);
        return await task;
    }

    private async ValueTask SendAsync(ReadOnlyMemory<byte> message, CancellationToken cancellationToken)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _closing.Token);
        try
        {
            var writing = stream.WriteAsync(message, stop.Token);
            if (!writing.IsCompleted)
            {
                var (task, since) = (writing.AsTask(), time.GetTimestamp());
                Volatile.Write(ref _waitingSince, since);
                await WaitAsync(task, () => false, stop);
                await task;
                return;
            }

            await writing;
        }
        catch (IOException e)
        {
            throw Broken(e.Message, e);
        }
    }

    // Waits for the agent, while it lives.
    private async Task WaitAsync(Task task, Func<bool> mayBeSilent, CancellationTokenSource stop)
    {
        while (!task.IsCompleted)
        {
            await task.WaitAsync(Silence, time, CancellationToken.None).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            var silence = time.GetElapsedTime(Volatile.Read(ref _waitingSince));
            if (task.IsCompleted || mayBeSilent() || silence < Silence)
            {
                continue;
            }

            if (silence >= MostSilence || !await isAlive(stop.Token))
            {
                if (task.IsCompleted)
                {
                    return;
                }

                await stop.CancelAsync();
                await task.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                throw new IOException($"it was silent for {silence.TotalSeconds:0} s");
            }
        }
    }
}
