using System.Threading.Channels;
using Pandora.Agent.Protocol;

namespace Pandora.Fakes;

/// <summary>
/// A connection to an agent that answers every question: for health and clock with its own values, and for others with their body.
/// </summary>
/// <param name="time">The clock of the guest; null for a clock that always reads the zero of <see cref="DateTimeOffset"/>.</param>
internal sealed class FakeAgent(TimeProvider? time = null) : Stream
{
    private readonly Channel<byte[]> _answers = Channel.CreateUnbounded<byte[]>();
    private int _asked, _answered, _clockReads;

    /// <summary>Whether the agent does not answer.</summary>
    public bool IsSilent { get; set; }

    /// <summary>Number of disk errors that the agent reports.</summary>
    public uint DiskErrors { get; set; }

    /// <summary>Body with which the agent says what the guest uses; null for an agent of an older version, which does not know.</summary>
    public byte[]? Usage { get; set; }

    /// <summary>Called when the clock is read, with the number of reads so far.</summary>
    public Action<int>? OnClockRead { get; init; }

    /// <summary>Number of questions that the agent received.</summary>
    public int Asked => Volatile.Read(ref _asked);

    /// <summary>Number of answers that the server read.</summary>
    public int Answered => Volatile.Read(ref _answered);

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        var answer = await _answers.Reader.ReadAsync(cancellationToken);
        answer.CopyTo(buffer);
        Interlocked.Increment(ref _answered);
        return answer.Length;
    }

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        Interlocked.Increment(ref _asked);
        if (AgentProtocol.Decode(buffer.Span, out var question) <= 0)
        {
            return ValueTask.CompletedTask;
        }

        if (question.Message == AgentMessage.ReadClock)
        {
            OnClockRead?.Invoke(Interlocked.Increment(ref _clockReads));
        }

        if (!IsSilent)
        {
            _answers.Writer.TryWrite(question.Message switch
            {
                AgentMessage.AskHealth => AgentProtocol.Encode(AgentMessage.Health, question.Id, AgentProtocol.EncodeHealth(DiskErrors)),
                AgentMessage.ReadClock => AgentProtocol.Encode(
                    AgentMessage.Clock, question.Id, AgentProtocol.EncodeNanoseconds(Nanoseconds(time?.GetUtcNow() ?? default))),
                AgentMessage.AskUsage => AgentProtocol.Encode(
                    Usage is null ? AgentMessage.Failed : AgentMessage.Usage, question.Id, Usage ?? []),
                _ => AgentProtocol.Encode((AgentMessage)((int)question.Message + 1), question.Id, question.Body.Span),
            });
        }

        return ValueTask.CompletedTask;
    }

    private static long Nanoseconds(DateTimeOffset time) => (time - DateTimeOffset.UnixEpoch).Ticks * 100;

    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}
