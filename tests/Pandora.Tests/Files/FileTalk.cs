using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Agent.Protocol.Files;
using Pandora.Agent.Protocol.Processes;
using Pandora.Engine.Guests.Agent;
using Pandora.Fakes;

namespace Pandora.Tests.Files;

/// <summary>What the agent answered to one request.</summary>
internal sealed class FileAnswer
{
    public List<FileEntry> Entries { get; } = [];

    public MemoryStream Content { get; } = new();

    public FileResult? Result { get; set; }

    public FileFailure? Failure { get; set; }

    public byte[] Bytes => Content.ToArray();
}

/// <summary>The server's end of a channel to the agent's real code for files.</summary>
internal sealed class FileTalk : IAsyncDisposable
{
    private readonly ChannelConnection _connection = new(AgentFiles.Connect(), "test", TimeProvider.System, NullLogger.Instance);

    public ValueTask DisposeAsync() => _connection.DisposeAsync();

    /// <summary>Opens a stream for a request.</summary>
    public Task<AgentStream> OpenAsync(FileRequest request) =>
        _connection.OpenAsync(FileMessages.Encode(FileMessage.Request, request.Encode()), default);

    /// <summary>Asks for what must be done.</summary>
    public async Task<FileAnswer> DoAsync(FileRequest request, ReadOnlyMemory<byte> content = default)
    {
        var answer = await AskAsync(request, content);
        Assert.True(answer.Failure is null, $"{answer.Failure?.Kind}: {answer.Failure?.Reason}");
        return answer;
    }

    /// <summary>Asks for what must fail.</summary>
    public async Task<FileFailure> FailAsync(FileRequest request, FileFailureKind kind, ReadOnlyMemory<byte> content = default)
    {
        var answer = await AskAsync(request, content);
        Assert.NotNull(answer.Failure);
        Assert.True(answer.Failure.Kind == kind, $"{answer.Failure.Kind}: {answer.Failure.Reason}");
        return answer.Failure;
    }

    /// <summary>Sends a request with all its content, and reads the whole answer.</summary>
    public async Task<FileAnswer> AskAsync(FileRequest request, ReadOnlyMemory<byte> content = default)
    {
        var stream = await OpenAsync(request);
        var reading = ReadAsync(stream);
        if (request.Operation is FileOperation.Write or FileOperation.Unpack)
        {
            await SendAsync(stream, content, reading);
        }

        var answer = await reading.WaitAsync(TimeSpan.FromSeconds(60));
        stream.Close(mustForget: false);
        return answer;
    }

    /// <summary>Sends content and its end. The agent may have failed meanwhile.</summary>
    public static async Task SendAsync(AgentStream stream, ReadOnlyMemory<byte> content, Task reading)
    {
        while (!content.IsEmpty && !reading.IsCompleted)
        {
            var part = content[..Math.Min(content.Length, 50_000)];
            var write = stream.WriteAsync(FileMessages.Encode(FileMessage.Write, part.Span), default).AsTask();
            await Task.WhenAny(write, reading);
            content = content[part.Length..];
        }

        if (!reading.IsCompleted)
        {
            await Task.WhenAny(stream.WriteAsync(FileMessages.Encode(FileMessage.EndWrite, []), default).AsTask(), reading);
        }
    }

    /// <summary>Reads an answer to its end.</summary>
    public static async Task<FileAnswer> ReadAsync(AgentStream stream)
    {
        var answer = new FileAnswer();
        await foreach (var (kind, body) in MessagesAsync(stream))
        {
            Assert.True(answer.Result is null && answer.Failure is null, "a message after the last");
            switch (kind)
            {
                case FileMessage.Entry:
                    answer.Entries.Add(FileEntry.Decode(body));
                    break;
                case FileMessage.Read:
                    answer.Content.Write(body);
                    break;
                case FileMessage.Done:
                    answer.Result = FileResult.Decode(body);
                    break;
                case FileMessage.Failed:
                    answer.Failure = FileFailure.Decode(body);
                    break;
                default:
                    Assert.Fail($"a message {kind}");
                    break;
            }
        }

        Assert.True(answer.Result is not null || answer.Failure is not null, "the stream ended without a last message");
        return answer;
    }

    /// <summary>Reads messages until the stream ends.</summary>
    public static async IAsyncEnumerable<(FileMessage Kind, byte[] Body)> MessagesAsync(AgentStream stream)
    {
        var parser = new MessageParser(FileMessages.MaxBody);
        while (true)
        {
            while (parser.TryRead(out var kind, out var body))
            {
                yield return ((FileMessage)kind, body.ToArray());
            }

            var count = await stream.ReadAsync(parser.Room, default);
            if (count == 0)
            {
                yield break;
            }

            parser.Received(count);
        }
    }
}
