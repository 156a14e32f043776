using Pandora.Agent.Protocol.Channel;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Engine.Guests.Agent;

/// <content>The server's end of one stream.</content>
internal sealed partial class ChannelConnection
{
    /// <summary>One stream.</summary>
    private sealed class Pipe(ChannelConnection connection, ChannelStream stream) : AgentStream
    {
        private TaskCompletionSource? _waiting;

        public override bool IsSent => stream.IsOpenSent;

        public override bool TryWithdraw()
        {
            lock (connection._lock)
            {
                if (stream.IsOpenSent)
                {
                    return false;
                }

                connection._pipes.Remove(stream.Id);
                connection._end.Reset(stream, "the server has withdrawn it");
            }

            Wake();
            return true;
        }

        public override async ValueTask<int> ReadAsync(Memory<byte> bytes, CancellationToken cancellationToken)
        {
            while (true)
            {
                int count;
                var changed = Task.CompletedTask;
                lock (connection._lock)
                {
                    count = stream.Read(bytes.Span);
                    if (count == 0)
                    {
                        if (stream.IsAtEnd)
                        {
                            return 0;
                        }

                        MustBeOpen();
                        changed = WhenChanged();
                    }
                }

                if (count > 0)
                {
                    // What was taken makes room at the other end.
                    connection.Send();
                    return count;
                }

                await changed.WaitAsync(cancellationToken);
            }
        }

        public override async ValueTask WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
        {
            while (!bytes.IsEmpty)
            {
                var changed = Task.CompletedTask;
                lock (connection._lock)
                {
                    MustBeOpen();
                    var count = stream.Write(bytes.Span);
                    bytes = bytes[count..];
                    if (count == 0)
                    {
                        changed = WhenChanged();
                    }
                }

                connection.Send();
                await changed.WaitAsync(cancellationToken);
            }
        }

        public override void Close(bool mustForget)
        {
            lock (connection._lock)
            {
                if (connection._pipes.Remove(stream.Id))
                {
                    connection._end.Reset(stream, mustForget ? ProcessMessages.ForgetReason : "the server reads no more");
                }
            }

            Wake();
            connection.Send();
        }

        public void Wake()
        {
            TaskCompletionSource? waiting;
            lock (connection._lock)
            {
                (waiting, _waiting) = (_waiting, null);
            }

            waiting?.TrySetResult();
        }

        private Task WhenChanged() => (_waiting ??= NewSignal()).Task;

        private void MustBeOpen()
        {
            if ((stream.ResetReason ?? connection._broken) is { } reason)
            {
                throw new IOException(reason);
            }
        }
    }
}
