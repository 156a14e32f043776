using System.Security.Cryptography;
using System.Text;
using Pandora.Agent.Protocol;
using Pandora.Vmm;

namespace Pandora.Engine.Guests;

/// <summary>
/// The server's end of the connection to the agent in one guest. It asks one question at a time. The guest may be hostile: the server reads
/// only while it waits for an answer, into one buffer of a fixed size, and for a limited time and number of bytes.
/// </summary>
internal sealed class GuestAgent(IVirtualMachine machine, TimeProvider time) : IAsyncDisposable
{
    /// <summary>Longest that a guest may take to answer.</summary>
    public static readonly TimeSpan AnswerLimit = TimeSpan.FromSeconds(10);

    /// <summary>Most bytes that may come before an answer: late answers to earlier questions, or frames that were not asked for.</summary>
    public const int MostBefore = 256 * 1024;

    // A round trip shorter than this is accurate enough to set the clock. A clock that differs by no more than the accuracy of the
    // measurement plus this is not changed, because programs in the guest notice each step back.
    private static readonly TimeSpan ClockAccuracy = TimeSpan.FromMilliseconds(5);
    private const int ClockTries = 10, SeedBytes = 64;
    private readonly SemaphoreSlim _asking = new(1, 1);
    private readonly byte[] _buffer = new byte[AgentProtocol.HeaderSize + AgentProtocol.MaxBody];
    private Stream? _stream;
    private int _length;
    private uint _lastId = RandomId();
    private volatile bool _isDisposed;
    private volatile bool _hasHealth = true;

    /// <summary>Id of the next question. The first is random, so a guest cannot know an id before the question is asked.</summary>
    internal uint NextId
    {
        init => _lastId = value - 1;
    }

    /// <summary>Returns once the agent answers.</summary>
    /// <exception cref="VmmException">The agent does not answer, or answers with other bytes.</exception>
    public async Task PingAsync(ReadOnlyMemory<byte> body, CancellationToken cancellationToken)
    {
        var answer = await AskAsync(AgentMessage.Ping, body, AgentMessage.Pong, cancellationToken);
        if (!answer.Span.SequenceEqual(body.Span))
        {
            throw new VmmException("the guest's agent answered a ping with other bytes");
        }
    }

    /// <summary>Asks for the guest's disk errors. An agent of an earlier version does not know that question and is pinged
    /// instead.</summary>
    /// <returns>How many disk errors the guest's kernel has reported; 0 for an earlier agent.</returns>
    /// <exception cref="VmmException">The agent does not answer, or its answer is not valid.</exception>
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
                throw new VmmException("the guest's agent answered with an invalid health report", e);
            }
            catch (AgentFailedException)
            {
                _hasHealth = false;
            }
        }

        await PingAsync(ReadOnlyMemory<byte>.Empty, cancellationToken);
        return 0;
    }

    /// <summary>Asks for what the guest uses.</summary>
    /// <returns>Null when the agent is one of an earlier version, which does not know.</returns>
    /// <exception cref="VmmException">The agent does not answer, or its answer is not valid.</exception>
    public async Task<UsageBody?> ReadUsageAsync(CancellationToken cancellationToken)
    {
        try
        {
            return UsageBody.Decode(
                (await AskAsync(AgentMessage.AskUsage, ReadOnlyMemory<byte>.Empty, AgentMessage.Usage, cancellationToken)).Span);
        }
        catch (FormatException e)
        {
            throw new VmmException($"the guest's agent answered with {e.Message}", e);
        }
        catch (AgentFailedException)
        {
            return null;
        }
    }

    /// <summary>Sets the identity, the random state and the clock of a restored guest.</summary>
    /// <exception cref="VmmException">The agent does not answer, or could not set them.</exception>
    /// <param name="identity">The guest's identity.</param>
    /// <param name="hasStreams">Whether the agent has streams, and so a secret.</param>
    /// <param name="cancellationToken">Cancels the wait.</param>
    public async Task ResumeAsync(GuestIdentity identity, bool hasStreams, CancellationToken cancellationToken)
    {
        var body = new ResumeBody(
            Now(), RandomNumberGenerator.GetBytes(SeedBytes), identity.Hostname, identity.MachineId, identity.HostKeyFile,
            hasStreams ? identity.Secret : []);
        await AskAsync(AgentMessage.Resume, body.Encode(), AgentMessage.Resumed, cancellationToken);
    }

    /// <summary>
    /// Sets the guest's clock to the host's, within <see cref="AnswerLimit"/>. It reads the guest's clock until a round trip is short
    /// enough, at most <see cref="ClockTries"/> times, uses the fastest answer, and then moves the guest's clock by the difference.
    /// </summary>
    /// <returns>How far the guest's clock was behind; negative when it was ahead.</returns>
    /// <exception cref="VmmException">The agent does not answer, or could not set the clock.</exception>
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
                // The guest read its clock at some time during the round trip; half of the round trip is the best estimate.
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
            throw new VmmException("the guest's agent answered with an invalid time", e);
        }
    }

    private long Now() => (time.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks * 100;

    private async Task<ReadOnlyMemory<byte>> AskAsync(
        AgentMessage question, ReadOnlyMemory<byte> body, AgentMessage expected, CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(AnswerLimit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        var isHeld = false;
        try
        {
            await _asking.WaitAsync(linked.Token);
            isHeld = true;
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            _stream ??= await machine.ConnectAgentAsync(linked.Token);
            var id = ++_lastId;
            await _stream.WriteAsync(AgentProtocol.Encode(question, id, body.Span), linked.Token);
            var answer = await ReadAnswerAsync(_stream, id, linked.Token);
            if (answer.Message == AgentMessage.Failed)
            {
                throw new AgentFailedException(GuestText.Printable(Encoding.UTF8.GetString(answer.Body.Span)));
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
            if (isHeld)
            {
                _asking.Release();
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
                    throw new VmmException("the guest's agent sent bytes that are not a frame of the protocol");
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
}

/// <summary>The agent answered that it could not do what it was asked.</summary>
internal sealed class AgentFailedException(string reason) : VmmException($"the guest's agent could not: {reason}");
