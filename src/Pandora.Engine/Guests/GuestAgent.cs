using System.Security.Cryptography;
using Pandora.Agent.Protocol;
using Pandora.Vmm;

namespace Pandora.Engine.Guests;

/// <summary>
/// The server's end of the agent in one guest, one question at a time. The guest may be hostile: what it sends is read into one buffer of a
/// fixed size, only while an answer is awaited, and for so long and so much at most.
/// </summary>
internal sealed class GuestAgent(IVirtualMachine machine, TimeProvider time) : IAsyncDisposable
{
    /// <summary>Longest that a guest may take to answer.</summary>
    public static readonly TimeSpan AnswerLimit = TimeSpan.FromSeconds(10);

    /// <summary>Bytes that may come before an answer: what the guest said to an earlier question, or unasked.</summary>
    public const int MostBefore = 256 * 1024;

    // An answer within this tells the time well enough; a clock that is no further off than an answer can tell, and this, is left alone:
    // each step back is seen by what runs.
    private static readonly TimeSpan ClockAccuracy = TimeSpan.FromMilliseconds(5);
    private const int ClockTries = 10, SeedBytes = 64;
    private readonly SemaphoreSlim _one = new(1, 1);
    private readonly byte[] _buffer = new byte[AgentProtocol.HeaderSize + AgentProtocol.MaxBody];
    private Stream? _stream;
    private int _length;
    private uint _lastId = RandomId();
    private volatile bool _isDisposed;
    private volatile bool _hasHealth = true;

    /// <summary>What the next question is known by. A guest cannot know it before it is asked.</summary>
    internal uint NextId
    {
        init => _lastId = value - 1;
    }

    /// <summary>Returns once the agent answers.</summary>
    /// <exception cref="VmmException">It does not, or answers something else.</exception>
    public async Task PingAsync(ReadOnlyMemory<byte> body, CancellationToken cancellationToken)
    {
        var answer = await AskAsync(AgentMessage.Ping, body, AgentMessage.Pong, cancellationToken);
        if (!answer.Span.SequenceEqual(body.Span))
        {
            throw new VmmException("the guest's agent answered something else than it was asked");
        }
    }

    /// <summary>Asks whether the guest is well. An agent of an earlier version only shows that it is there.</summary>
    /// <returns>How many errors of its disks the guest's kernel has reported.</returns>
    /// <exception cref="VmmException">The agent does not answer, or answers something else.</exception>
    public async Task<uint> CheckHealthAsync(CancellationToken cancellationToken)
    {
        if (_hasHealth)
        {
            try
            {
                return AgentProtocol.DecodeHealth(
                    (await AskAsync(AgentMessage.AskHealth, ReadOnlyMemory<byte>.Empty, AgentMessage.Health, cancellationToken)).Span);
            }
            catch (FormatException e)
            {
                throw new VmmException("the guest's agent answered no report of health", e);
            }
            catch (AgentFailedException)
            {
                _hasHealth = false;
            }
        }

        await PingAsync(ReadOnlyMemory<byte>.Empty, cancellationToken);
        return 0;
    }

    /// <summary>Gives a restored guest its own identity and random state, and the time.</summary>
    /// <exception cref="VmmException">The agent does not answer, or could not.</exception>
    public async Task ResumeAsync(GuestIdentity identity, CancellationToken cancellationToken)
    {
        var body = new ResumeBody(
            Now(), RandomNumberGenerator.GetBytes(SeedBytes), identity.Hostname, identity.MachineId, identity.HostKeyFile);
        await AskAsync(AgentMessage.Resume, body.Encode(), AgentMessage.Resumed, cancellationToken);
    }

    /// <summary>
    /// Sets the guest's clock to the host's, in <see cref="AnswerLimit"/> at most. It asks until an answer comes fast enough to tell the
    /// time by, on a busy host some times and goes by the fastest, and then moves the clock by what is between.
    /// </summary>
    /// <returns>By how much the guest's was behind.</returns>
    /// <exception cref="VmmException">The agent does not answer, or could not.</exception>
    public async Task<TimeSpan> SetClockAsync(CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(AnswerLimit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        try
        {
            return await SetClockWithinAsync(linked.Token);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new VmmException($"the guest's agent did not answer within {AnswerLimit.TotalSeconds:0} s", e);
        }
    }

    private async Task<TimeSpan> SetClockWithinAsync(CancellationToken cancellationToken)
    {
        var (behind, took) = (TimeSpan.Zero, TimeSpan.MaxValue);
        for (var tries = 0; tries < ClockTries && took > ClockAccuracy; tries++)
        {
            var (asked, start) = (Now(), time.GetTimestamp());
            var answer = await AskAsync(AgentMessage.ReadClock, ReadOnlyMemory<byte>.Empty, AgentMessage.Clock, cancellationToken);
            var elapsed = time.GetElapsedTime(start);
            if (elapsed < took)
            {
                // Read somewhere between; half-way is the best guess.
                (behind, took) = (TimeSpan.FromMicroseconds((asked - TimeIn(answer)) / 1000) + (elapsed / 2), elapsed);
            }
        }

        if (behind.Duration() > ClockAccuracy + (took / 2))
        {
            await AskAsync(
                AgentMessage.ShiftClock,
                AgentProtocol.EncodeNanoseconds((long)behind.TotalMicroseconds * 1000),
                AgentMessage.ClockShifted,
                cancellationToken);
        }

        return behind;
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _isDisposed = true;
        await (_stream?.DisposeAsync() ?? default);
    }

    private static uint RandomId() => BitConverter.ToUInt32(RandomNumberGenerator.GetBytes(4));

    private static long TimeIn(ReadOnlyMemory<byte> answer)
    {
        try
        {
            return AgentProtocol.DecodeNanoseconds(answer.Span);
        }
        catch (FormatException e)
        {
            throw new VmmException("the guest's agent answered no time", e);
        }
    }

    private long Now() => (time.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks * 100;

    private async Task<ReadOnlyMemory<byte>> AskAsync(
        AgentMessage question, ReadOnlyMemory<byte> body, AgentMessage expected, CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(AnswerLimit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        var isOurs = false;
        try
        {
            await _one.WaitAsync(linked.Token);
            isOurs = true;
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            _stream ??= await machine.ConnectAgentAsync(linked.Token);
            var id = ++_lastId;
            await _stream.WriteAsync(AgentProtocol.Encode(question, id, body.Span), linked.Token);
            var answer = await ReadAnswerAsync(_stream, id, linked.Token);
            if (answer.Message == AgentMessage.Failed)
            {
                throw new AgentFailedException(Printable(answer.Body.Span));
            }

            return answer.Message == expected
                ? answer.Body
                : throw new VmmException($"the guest's agent answered {question} with {(int)answer.Message}");
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new VmmException($"the guest's agent did not answer within {AnswerLimit.TotalSeconds:0} s", e);
        }
        catch (Exception e) when (e is not (OperationCanceledException or VmmException))
        {
            throw new VmmException($"the guest's agent cannot be reached: {e.Message}", e);
        }
        finally
        {
            if (isOurs)
            {
                _one.Release();
            }
        }
    }

    private async Task<AgentFrame> ReadAnswerAsync(Stream stream, uint id, CancellationToken cancellationToken)
    {
        var before = 0;
        while (true)
        {
            var used = 0;
            while (AgentProtocol.Decode(_buffer.AsSpan(used, _length - used), out var frame) is var size && size != 0)
            {
                if (size < 0)
                {
                    _length = 0;
                    throw new VmmException("what the guest's agent sent is no frame of the protocol's");
                }

                used += size;
                if (frame.Id == id)
                {
                    Forget(used);
                    return frame;
                }
            }

            Forget(used);
            before += used;
            if (before > MostBefore)
            {
                throw new VmmException("the guest's agent sends without being asked");
            }

            var count = await stream.ReadAsync(_buffer.AsMemory(_length), cancellationToken);
            if (count == 0)
            {
                await stream.DisposeAsync();
                (_stream, _length) = (null, 0);
                throw new VmmException("the guest's agent closed the connection");
            }

            _length += count;
        }
    }

    private void Forget(int count)
    {
        _buffer.AsSpan(count, _length - count).CopyTo(_buffer);
        _length -= count;
    }

    // It may hold anything, and goes to logs.
    private static string Printable(ReadOnlySpan<byte> text)
    {
        var printable = new System.Text.StringBuilder();
        foreach (var c in text[..Math.Min(text.Length, 200)])
        {
            printable.Append(c is >= 32 and < 127 ? (char)c : '.');
        }

        return printable.ToString();
    }
}

/// <summary>The agent could not do what it was asked.</summary>
internal sealed class AgentFailedException(string reason) : VmmException($"the guest's agent could not: {reason}");
