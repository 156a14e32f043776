using System.Threading.Channels;
using Pandora.Agent.Protocol;

namespace Pandora.Fakes;

/// <summary>A connection to an agent that answers every question with its body, or none; what is its own to tell, it tells.</summary>
/// <param name="time">The guest's clock; null for one that is at no time.</param>
internal sealed class FakeAgent(TimeProvider? time = null) : Stream
{
    private readonly Channel<byte[]> _answers = Channel.CreateUnbounded<byte[]>();
    private int _asked, _answered, _clockReads;

    /// <summary>Whether it does not answer.</summary>
    public bool IsSilent { get; set; }

    /// <summary>Errors of the guest's disks that it tells of.</summary>
    public uint DiskErrors { get; set; }

    /// <summary>Told when its clock is asked for, and how often it was.</summary>
    public Action<int>? OnClockRead { get; init; }

    /// <summary>Questions that came.</summary>
    public int Asked => Volatile.Read(ref _asked);

    /// <summary>Answers that were taken.</summary>
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
